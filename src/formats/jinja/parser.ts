/** Templates to a tree, by the rules of jinja2's parser. */
import type { Expression, Signature, Statement, Target } from './ast.js';
import { CONSTANTS, ExpressionParser } from './expressionParser.js';
import { tokenize } from './lexer.js';
import { described } from './tokenStream.js';

const UNSUPPORTED = new Set('block extends include from import autoescape'.split(' '));

/**
 * The statements of a template.
 * @throws UserError where it cannot be read.
 */
export function parse(template: string): Statement[] {
  return new Parser(tokenize(template)).statements([]);
}

class Parser extends ExpressionParser {
  /** How many loops stand around, in the same function of Python's. */
  private loops = 0;

  /** Up to one of the `ends`, which stays the current token, or to the end of the template when there are none. */
  statements(ends: readonly string[]): Statement[] {
    return this.deeper(() => {
      const statements: Statement[] = [];
      for (;;) {
        const token = this.current;
        if (token.type === 'eof') {
          if (ends.length > 0) this.fail(`it ends before {% ${ends.at(-1)} %}`);
          return statements;
        }
        if (token.type === 'data') {
          this.take();
          statements.push({ kind: 'text', text: token.text });
        } else if (token.text === '{{') {
          this.take();
          statements.push({ kind: 'print', value: this.tuple() });
          this.expect('end', '}}');
        } else {
          this.take();
          if (this.keyword(...ends)) return statements;
          statements.push(...this.statement());
        }
      }
    });
  }

  /** The statements up to the end of a block, and that passed too. */
  private body(end: string): Statement[] {
    const statements = this.statements([end]);
    this.take();
    this.blockEnd();
    return statements;
  }

  private blockEnd(): void {
    this.expect('end', '%}');
  }

  private statement(): Statement[] {
    const token = this.current;
    const tag = this.name();
    switch (tag) {
      case 'if':
        return [this.if()];
      case 'for':
        return [this.for()];
      case 'break':
      case 'continue':
        if (this.loops === 0) this.fail(`{% ${tag} %} stands outside of a loop`, token);
        this.blockEnd();
        return [{ kind: tag }];
      case 'set':
        return [this.set()];
      case 'with':
        return [this.with()];
      case 'macro':
        return [this.macro()];
      case 'call':
        return [this.callBlock()];
      case 'filter': {
        const filter = this.filters(undefined, true);
        this.blockEnd();
        return [{ kind: 'filtered', filter: filter!, body: this.function(() => this.body('endfilter')) }];
      }
      case 'generation':
        this.blockEnd();
        return [{ kind: 'generation', body: this.function(() => this.body('endgeneration')) }];
      case 'print': {
        const printed: Statement[] = [];
        while (this.current.type !== 'end') {
          if (printed.length > 0) this.expect('operator', ',');
          printed.push({ kind: 'print', value: this.expression() });
        }
        this.blockEnd();
        return printed;
      }
      default:
        if (UNSUPPORTED.has(tag)) this.fail(`{% ${tag} %} is not supported`, token);
        return this.fail(`there is no {% ${tag} %}, or none at this place`, token);
    }
  }

  private if(): Statement {
    const branches: [Expression, Statement[]][] = [];
    for (;;) {
      const test = this.tuple({ condition: false });
      this.blockEnd();
      branches.push([test, this.statements(['elif', 'else', 'endif'])]);
      const next = this.take().text;
      if (next === 'elif') continue;
      this.blockEnd();
      return { kind: 'if', branches, otherwise: next === 'else' ? this.body('endif') : [] };
    }
  }

  private for(): Statement {
    const target = this.target({ end: 'in' });
    if (namesOf(target).includes('loop')) this.fail('a loop cannot have a variable called loop');
    this.expect('name', 'in');
    const iterable = this.tuple({ condition: false, end: 'recursive' });
    const test = this.skip('name', 'if') ? this.expression() : undefined;
    const recursive = this.skip('name', 'recursive');
    this.blockEnd();
    this.loops++;
    const body = this.statements(['endfor', 'else']);
    this.loops--;
    const next = this.take().text;
    this.blockEnd();
    const otherwise = next === 'else' ? this.body('endfor') : [];
    return { kind: 'for', target, iterable, test, recursive, body, otherwise };
  }

  private set(): Statement {
    const target = this.target({ attributes: true });
    if (this.skip('operator', '=')) {
      const value = this.tuple();
      this.blockEnd();
      return { kind: 'set', target, value };
    }
    const filter = this.filters(undefined, false);
    this.blockEnd();
    return { kind: 'capture', target, filter, body: this.function(() => this.body('endset')) };
  }

  private with(): Statement {
    const values: [Target, Expression][] = [];
    while (this.current.type !== 'end') {
      if (values.length > 0) this.expect('operator', ',');
      const target = this.target();
      this.expect('operator', '=');
      values.push([target, this.expression()]);
    }
    this.blockEnd();
    return { kind: 'with', values, body: this.body('endwith') };
  }

  private macro(): Statement {
    const name = this.name();
    return { kind: 'macro', name, signature: this.signature('endmacro', true) };
  }

  private callBlock(): Statement {
    // What the block takes stands before what it calls.
    const start = this.at;
    const parameters = this.operator('(') ? this.parameters() : [];
    const call = this.expression();
    if (call.kind !== 'call') this.fail('{% call %} calls nothing', this.tokens[start]);
    return { kind: 'callBlock', call, signature: this.signature('endcall', parameters) };
  }

  private signature(end: string, given: true | Signature['parameters']): Signature {
    return this.function(() => {
      const uses = new Set<string>();
      this.uses.push(uses);
      const parameters = given === true ? this.parameters() : given;
      this.blockEnd();
      const body = this.body(end);
      this.uses.pop();
      for (const name of uses) this.uses.at(-1)?.add(name);
      return { parameters, body, uses };
    });
  }

  private parameters(): Signature['parameters'] {
    const parameters: { name: string; otherwise: Expression | undefined }[] = [];
    this.expect('operator', '(');
    while (!this.operator(')')) {
      if (parameters.length > 0) this.expect('operator', ',');
      const name = this.name();
      const otherwise = this.skip('operator', '=') ? this.expression() : undefined;
      if (otherwise === undefined && parameters.at(-1)?.otherwise !== undefined) {
        this.fail(`the parameter ${name} without a default follows one with a default`);
      }
      if (name === 'caller' || name === 'varargs' || name === 'kwargs') {
        this.fail(`a parameter called ${name} is not supported`);
      }
      parameters.push({ name, otherwise });
    }
    this.take();
    return parameters;
  }

  /** Reads a body from which the loops around it cannot be left: most are functions of their own in Python. */
  private function<T>(read: () => T): T {
    const { loops } = this;
    this.loops = 0;
    const result = read();
    this.loops = loops;
    return result;
  }

  private target({ end, attributes = false }: { end?: string; attributes?: boolean } = {}): Target {
    const targets: Target[] = [];
    let isTuple = false;
    while (!this.endsTuple(end)) {
      targets.push(this.oneTarget(attributes));
      if (!this.skip('operator', ',')) break;
      isTuple = true;
    }
    if (targets.length === 0) this.fail(`expected a name, found ${described(this.current)}`);
    return isTuple ? { kind: 'tuple', items: targets } : targets[0];
  }

  private oneTarget(attributes: boolean): Target {
    if (this.skip('operator', '(')) {
      const inner = this.deeper(() => this.target({ attributes }));
      this.expect('operator', ')');
      return inner;
    }
    const token = this.current;
    const name = this.name();
    if (CONSTANTS.has(name)) this.fail(`cannot assign to ${name}`, token);
    if (!attributes || !this.skip('operator', '.')) return { kind: 'name', name };
    return { kind: 'attribute', namespace: name, name: this.name() };
  }
}

function namesOf(target: Target): string[] {
  return target.kind === 'tuple' ? target.items.flatMap(namesOf) : [target.name];
}
