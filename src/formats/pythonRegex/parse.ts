/** Patterns of Python's `re` as trees: the syntax of Python 3.11 for text, as its `re._parser` reads it. */
import { type CharTest, category, underCase } from './characters.js';
import { FLAG_OF, type Flags, NO_FLAGS, PatternError, withFlags } from './flags.js';
import { type Node, type Width, widthOf } from './node.js';

export interface Parsed {
  root: Node;
  /** Groups by name; the whole match is 0. */
  names: ReadonlyMap<string, number>;
  groups: number;
}

const MAX_NESTING = 200;
const ESCAPES: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11, '\\': 92 };
const IDENTIFIER = /^[\p{XID_Start}_]\p{XID_Continue}*$/u;

/** Throws PatternError for what Python refuses, and for \N{…}. */
export function parsePattern(source: string): Parsed {
  return new Parser([...source]).parse();
}

class Parser {
  private at = 0;
  private groups = 1;
  private depth = 0;
  private readonly names = new Map<string, number>();
  private readonly open = new Set<number>();
  private readonly widths = new Map<number, Width>();
  /** Groups from this number on began in the look-behind that is being read. */
  private lookBehindFrom: number | undefined;
  private readonly conditions: number[] = [];

  constructor(private readonly source: readonly string[]) {}

  parse(): Parsed {
    const root = this.alternatives(this.globalFlags());
    if (this.at < this.source.length) throw new PatternError('unbalanced parenthesis');
    const unknown = this.conditions.find((group) => group >= this.groups);
    if (unknown !== undefined) throw new PatternError(`invalid group reference ${unknown}`);
    return { root, names: this.names, groups: this.groups };
  }

  private get next(): string | undefined {
    return this.source[this.at];
  }

  private take(): string | undefined {
    return this.source[this.at++];
  }

  private accept(wanted: string): boolean {
    if (this.next !== wanted) return false;
    this.at++;
    return true;
  }

  private takeWhile(pattern: RegExp, most = Number.POSITIVE_INFINITY): string {
    let text = '';
    while (text.length < most && this.next !== undefined && pattern.test(this.next)) text += this.take();
    return text;
  }

  private until(end: string, what: string): string {
    let text = '';
    for (;;) {
      const c = this.take();
      if (c === undefined)
        throw new PatternError(text === '' ? `missing ${what}` : `missing ${end}, unterminated name`);
      if (c === end) break;
      text += c;
    }
    if (text === '') throw new PatternError(`missing ${what}`);
    return text;
  }

  /** (?i) and its like, which hold for the whole pattern and stand at its start. */
  private globalFlags(): Flags {
    let flags = NO_FLAGS;
    for (;;) {
      if (flags.verbose) this.skipVerbose();
      const found = /^\(\?(?:([aiLmsux]+)|#[^)]*)\)/u.exec(this.source.slice(this.at).join(''));
      if (!found) return flags;
      if (found[1] !== undefined) flags = withFlags(flags, found[1]);
      this.at += [...found[0]].length;
    }
  }

  private skipVerbose(): void {
    for (;;) {
      this.takeWhile(/[ \t\n\r\v\f]/);
      if (this.next !== '#') return;
      this.takeWhile(/[^\n]/);
    }
  }

  private alternatives(flags: Flags): Node {
    if (++this.depth > MAX_NESTING) throw new PatternError(`it nests deeper than ${MAX_NESTING}`);
    const branches = [this.sequence(flags)];
    while (this.accept('|')) branches.push(this.sequence(flags));
    this.depth--;
    return branches.length === 1 ? branches[0] : { type: 'branch', branches };
  }

  private sequence(flags: Flags): Node {
    const items: Node[] = [];
    for (;;) {
      if (flags.verbose) this.skipVerbose();
      const c = this.next;
      if (c === undefined || c === '|' || c === ')') break;
      this.at++;
      if (c === '*' || c === '+' || c === '?' || c === '{') this.repeat(c, items, flags);
      else {
        const item = this.item(c, flags);
        if (item) items.push(item);
      }
    }
    return items.length === 1 ? items[0] : { type: 'sequence', items };
  }

  private repeat(c: string, items: Node[], flags: Flags): void {
    let [min, max] = [c === '+' ? 1 : 0, c === '?' ? 1 : Number.POSITIVE_INFINITY];
    if (c === '{') {
      const bounds = this.bounds();
      if (!bounds) {
        items.push(literal(0x7b, flags));
        return;
      }
      [min, max] = bounds;
    }
    const body = items.pop();
    if (!body || body.type === 'at') throw new PatternError('nothing to repeat');
    if (body.type === 'repeat') throw new PatternError('multiple repeat');
    const kind = this.accept('?') ? 'lazy' : this.accept('+') ? 'possessive' : 'greedy';
    items.push({ type: 'repeat', body, min, max, kind });
  }

  /** {2}, {2,}, {,3}, {2,3}; undefined where the brace is a mere character. */
  private bounds(): [number, number] | undefined {
    const start = this.at;
    if (this.next !== '}') {
      const low = this.takeWhile(/\d/);
      const high = this.accept(',') ? this.takeWhile(/\d/) : low;
      if (this.accept('}')) {
        const [min, max] = [
          low === '' ? 0 : Number(low),
          high === '' ? Number.POSITIVE_INFINITY : Number(high),
        ];
        if (max < min) throw new PatternError('min repeat greater than max repeat');
        const given = Math.max(min, max === Number.POSITIVE_INFINITY ? 0 : max);
        if (given >= 2 ** 32 - 1) throw new PatternError('the repetition number is too large');
        return [min, max];
      }
    }
    this.at = start;
    return undefined;
  }

  private item(c: string, flags: Flags): Node | undefined {
    switch (c) {
      case '.':
        return { type: 'char', test: flags.dotAll ? () => true : (code) => code !== 10 };
      case '^':
      case '$':
        return { type: 'at', where: c, flags };
      case '[':
        return this.set(flags);
      case '(':
        return this.group(flags);
      case '\\':
        return this.escape(flags);
      default:
        return literal(c.codePointAt(0)!, flags);
    }
  }

  private set(flags: Flags): Node {
    const negative = this.accept('^');
    const tests: CharTest[] = [];
    for (;;) {
      const c = this.setItem();
      if (c === ']' && tests.length > 0) break;
      const low = c === '\\' ? this.setEscape(flags) : c.codePointAt(0)!;
      if (!this.accept('-')) {
        tests.push(testOf(low));
        continue;
      }
      const end = this.setItem();
      if (end === ']') {
        tests.push(testOf(low), testOf(0x2d));
        break;
      }
      const high = end === '\\' ? this.setEscape(flags) : end.codePointAt(0)!;
      if (typeof low !== 'number' || typeof high !== 'number' || high < low) {
        throw new PatternError('bad character range');
      }
      tests.push((code) => code >= low && code <= high);
    }
    const inside = underCase((code) => tests.some((test) => test(code)), flags);
    return { type: 'char', test: negative ? (code) => !inside(code) : inside };
  }

  private setItem(): string {
    const c = this.take();
    if (c === undefined) throw new PatternError('unterminated character set');
    return c;
  }

  private setEscape(flags: Flags): number | CharTest {
    const c = this.escaped();
    if (/^[dDsSwW]$/.test(c)) return category(c, flags);
    if (c === 'b') return 8;
    if (/^[0-7]$/.test(c)) return octal(c + this.takeWhile(/[0-7]/, 2));
    if (/^[89]$/.test(c)) throw new PatternError(`bad escape \\${c}`);
    return this.character(c);
  }

  private escape(flags: Flags): Node {
    const c = this.escaped();
    if (/^[dDsSwW]$/.test(c)) return { type: 'char', test: category(c, flags) };
    if (c === 'A' || c === 'Z' || c === 'b' || c === 'B') return { type: 'at', where: c, flags };
    if (c === '0') return literal(octal(c + this.takeWhile(/[0-7]/, 2)), flags);
    if (!/^[1-9]$/.test(c)) return literal(this.character(c), flags);
    let digits = c + this.takeWhile(/\d/, 1);
    if (/^[0-7]{2}$/.test(digits) && this.next !== undefined && /[0-7]/.test(this.next)) {
      digits += this.take();
      if (/^[0-3]/.test(digits)) return literal(octal(digits), flags);
      throw new PatternError(`octal escape value \\${digits} outside of range 0-0o377`);
    }
    return this.reference(Number(digits), flags);
  }

  private escaped(): string {
    const c = this.take();
    if (c === undefined) throw new PatternError('bad escape (end of pattern)');
    return c;
  }

  /** What an escape spells that means the same inside and outside of a set. */
  private character(c: string): number {
    if (Object.hasOwn(ESCAPES, c)) return ESCAPES[c];
    const length = { x: 2, u: 4, U: 8 }[c];
    if (length !== undefined) {
      const digits = this.takeWhile(/[0-9a-fA-F]/, length);
      if (digits.length < length) throw new PatternError(`incomplete escape \\${c}${digits}`);
      const code = Number.parseInt(digits, 16);
      if (code > 0x10ffff) throw new PatternError(`bad escape \\${c}${digits}`);
      return code;
    }
    if (c === 'N') {
      throw new PatternError(
        '\\N{…}, a character by its name, is not implemented: write it itself, or as \\u….',
      );
    }
    if (/^[a-zA-Z]$/.test(c)) throw new PatternError(`bad escape \\${c}`);
    return c.codePointAt(0)!;
  }

  private reference(group: number, flags: Flags): Node {
    if (group >= this.groups) throw new PatternError(`invalid group reference ${group}`);
    if (this.open.has(group)) throw new PatternError('cannot refer to an open group');
    this.checkLookBehind(group);
    return { type: 'reference', group, width: this.widths.get(group)!, flags };
  }

  private checkLookBehind(group: number): void {
    if (this.lookBehindFrom !== undefined && group >= this.lookBehindFrom) {
      throw new PatternError('cannot refer to group defined in the same lookbehind subpattern');
    }
  }

  private group(flags: Flags): Node | undefined {
    if (!this.accept('?')) return this.capture(undefined, flags);
    const c = this.take();
    switch (c) {
      case undefined:
        throw new PatternError('unexpected end of pattern');
      case 'P':
        return this.named(flags);
      case ':':
        return { type: 'group', body: this.closed(flags) };
      case '>':
        return { type: 'atomic', body: this.closed(flags) };
      case '#':
        for (;;) {
          const skipped = this.take();
          if (skipped === undefined) throw new PatternError('missing ), unterminated comment');
          if (skipped === ')') return undefined;
        }
      case '=':
      case '!':
        return { type: 'look', body: this.closed(flags), negative: c === '!' };
      case '<':
        return this.lookBehind(flags);
      case '(':
        return this.condition(flags);
      default:
        return this.scoped(c, flags);
    }
  }

  private closed(flags: Flags): Node {
    const body = this.alternatives(flags);
    if (!this.accept(')')) throw new PatternError('missing ), unterminated subpattern');
    return body;
  }

  private capture(name: string | undefined, flags: Flags): Node {
    const index = this.groups++;
    if (name !== undefined) {
      const known = this.names.get(name);
      if (known !== undefined) {
        throw new PatternError(`redefinition of group name '${name}' as group ${index}; was group ${known}`);
      }
      this.names.set(name, index);
    }
    this.open.add(index);
    const body = this.closed(flags);
    this.open.delete(index);
    this.widths.set(index, widthOf(body));
    return { type: 'group', index, body };
  }

  private named(flags: Flags): Node {
    if (this.accept('<')) {
      const name = this.until('>', 'group name');
      checkName(name);
      return this.capture(name, flags);
    }
    if (this.accept('=')) {
      const name = this.until(')', 'group name');
      checkName(name);
      const group = this.names.get(name);
      if (group === undefined) throw new PatternError(`unknown group name '${name}'`);
      return this.reference(group, flags);
    }
    throw new PatternError(`unknown extension ?P${this.next ?? ''}`);
  }

  private lookBehind(flags: Flags): Node {
    const c = this.take();
    if (c !== '=' && c !== '!') throw new PatternError(`unknown extension ?<${c ?? ''}`);
    const outer = this.lookBehindFrom;
    this.lookBehindFrom ??= this.groups;
    const body = this.closed(flags);
    this.lookBehindFrom = outer;
    const [least, most] = widthOf(body);
    if (least !== most) throw new PatternError('look-behind requires fixed-width pattern');
    return { type: 'look', body, negative: c === '!', width: least };
  }

  private condition(flags: Flags): Node {
    const name = this.until(')', 'group name');
    let group = this.names.get(name);
    if (IDENTIFIER.test(name)) {
      if (group === undefined) throw new PatternError(`unknown group name '${name}'`);
    } else {
      if (!/^\d+$/.test(name)) throw new PatternError(`bad character in group name '${name}'`);
      group = Number(name);
      if (group === 0) throw new PatternError('bad group number');
      this.conditions.push(group);
    }
    this.checkLookBehind(group);
    const yes = this.sequence(flags);
    const no: Node = this.accept('|') ? this.sequence(flags) : { type: 'sequence', items: [] };
    if (this.next === '|') throw new PatternError('conditional backref with more than two branches');
    if (!this.accept(')')) throw new PatternError('missing ), unterminated subpattern');
    return { type: 'condition', group, yes, no };
  }

  /** (?i-s:…) */
  private scoped(first: string, flags: Flags): Node {
    const on = first === '-' ? '' : first + this.takeWhile(/[a-zA-Z]/);
    const off = first === '-' || this.accept('-') ? this.takeWhile(/[a-zA-Z]/) : undefined;
    if (!/^[aiLmsux]*$/.test(on)) {
      throw new PatternError(/^[a-zA-Z]+$/.test(on) ? 'unknown flag' : `unknown extension ?${first}`);
    }
    if (off === undefined && this.accept(')')) {
      throw new PatternError('global flags not at the start of the expression');
    }
    if (off === '') throw new PatternError('missing flag');
    if (off !== undefined && !/^[imsx]+$/.test(off)) {
      throw new PatternError(
        /[aLu]/.test(off) ? "bad inline flags: cannot turn off flags 'a', 'u' and 'L'" : 'unknown flag',
      );
    }
    if (!this.accept(':')) throw new PatternError('missing -, : or )');
    if ([...(off ?? '')].some((flag) => on.includes(flag))) {
      throw new PatternError('bad inline flags: flag turned on and off');
    }
    const changed = withFlags(flags, on);
    for (const flag of off ?? '') changed[FLAG_OF[flag]] = false;
    return { type: 'group', body: this.closed(changed) };
  }
}

function checkName(name: string): void {
  if (!IDENTIFIER.test(name)) throw new PatternError(`bad character in group name '${name}'`);
}

function octal(digits: string): number {
  const code = Number.parseInt(digits, 8);
  if (code > 0o377) throw new PatternError(`octal escape value \\${digits} outside of range 0-0o377`);
  return code;
}

const testOf = (item: number | CharTest): CharTest =>
  typeof item === 'number' ? (code) => code === item : item;

function literal(code: number, flags: Flags): Node {
  return { type: 'char', test: underCase((other) => other === code, flags) };
}
