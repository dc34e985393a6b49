/** A template's tokens, read one after the other. */
import { UserError } from '../../base/errors.js';
import type { Token } from './lexer.js';

/** Nested blocks and expressions: the parser and the interpreter call themselves once for each. */
const MAX_DEPTH = 200;

export class TokenStream {
  protected at = 0;
  private depth = 0;

  constructor(protected readonly tokens: readonly Token[]) {}

  protected get current(): Token {
    return this.tokens[this.at];
  }

  protected fail(message: string, { line } = this.current): never {
    throw new UserError(`the template cannot be read: line ${line}: ${message}`);
  }

  protected isAt(type: Token['type'], text: string, ahead = 0): boolean {
    const token = this.tokens[Math.min(this.at + ahead, this.tokens.length - 1)];
    return token.type === type && token.text === text;
  }

  protected operator(text: string): boolean {
    return this.isAt('operator', text);
  }

  protected keyword(...names: string[]): boolean {
    return this.current.type === 'name' && names.includes(this.current.text);
  }

  protected take(): Token {
    const token = this.current;
    if (token.type !== 'eof') this.at++;
    return token;
  }

  protected skip(type: Token['type'], text: string): boolean {
    const found = this.isAt(type, text);
    if (found) this.at++;
    return found;
  }

  protected expect(type: Token['type'], text: string): void {
    if (!this.skip(type, text)) this.fail(`expected ${text}, found ${described(this.current)}`);
  }

  protected name(): string {
    if (this.current.type !== 'name') this.fail(`expected a name, found ${described(this.current)}`);
    return this.take().text;
  }

  /** Reads what may hold itself. */
  protected deeper<T>(read: () => T): T {
    if (++this.depth > MAX_DEPTH) this.fail('it nests too deeply');
    const result = read();
    this.depth--;
    return result;
  }
}

/** A token, for errors. */
export function described({ type, text }: Token): string {
  if (type === 'eof') return 'the end of the template';
  if (type === 'data') return 'text';
  return text.slice(0, 40);
}
