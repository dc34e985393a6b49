/** The expressions of templates, by the rules of jinja2's parser: the same precedences, the same endings. */
import type { CallArguments, Comparison, Expression, Operator } from './ast.js';
import { described, TokenStream } from './tokenStream.js';

const COMPARISONS = new Set(['==', '!=', '<', '<=', '>', '>=']);

export class ExpressionParser extends TokenStream {
  /** The names used so far in each macro that stands around. */
  protected readonly uses: Set<string>[] = [];

  // Loosest first.

  protected tuple({ condition = true, end, parentheses = false }: TupleOptions = {}): Expression {
    const items: Expression[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0 && !this.skip('operator', ',')) break;
      if (this.endsTuple(end)) break;
      items.push(condition ? this.expression() : this.deeper(() => this.or()));
      if (this.operator(',')) isTuple = true;
    }
    if (!isTuple && items.length === 1) return items[0];
    if (!isTuple && !parentheses) this.fail(`expected an expression, found ${described(this.current)}`);
    return { kind: 'tuple', items };
  }

  protected endsTuple(end: string | undefined): boolean {
    return (
      this.current.type === 'end' ||
      this.current.type === 'eof' ||
      this.operator(')') ||
      (end !== undefined && this.keyword(end))
    );
  }

  protected expression(): Expression {
    return this.deeper(() => {
      let value = this.or();
      while (this.skip('name', 'if')) {
        const test = this.or();
        const otherwise = this.skip('name', 'else') ? this.expression() : undefined;
        value = { kind: 'condition', test, value, otherwise };
      }
      return value;
    });
  }

  protected or(): Expression {
    return this.leftToRight(
      () => this.and(),
      () => this.skip('name', 'or'),
      (left, right) => ({ kind: 'or', left, right }),
    );
  }

  protected and(): Expression {
    return this.leftToRight(
      () => this.not(),
      () => this.skip('name', 'and'),
      (left, right) => ({ kind: 'and', left, right }),
    );
  }

  protected not(): Expression {
    if (!this.skip('name', 'not')) return this.compare();
    return { kind: 'not', value: this.deeper(() => this.not()) };
  }

  protected compare(): Expression {
    const first = this.sum();
    const rest: [Comparison, Expression][] = [];
    for (;;) {
      if (this.current.type === 'operator' && COMPARISONS.has(this.current.text)) {
        rest.push([this.take().text as Comparison, this.sum()]);
      } else if (this.skip('name', 'in')) {
        rest.push(['in', this.sum()]);
      } else if (this.isAt('name', 'not') && this.isAt('name', 'in', 1)) {
        this.at += 2;
        rest.push(['not in', this.sum()]);
      } else {
        return rest.length === 0 ? first : { kind: 'compare', first, rest };
      }
    }
  }

  protected sum(): Expression {
    return this.arithmetic(() => this.concat(), ['+', '-']);
  }

  protected concat(): Expression {
    const parts = [this.product()];
    while (this.skip('operator', '~')) parts.push(this.product());
    return parts.length === 1 ? parts[0] : { kind: 'concat', parts };
  }

  protected product(): Expression {
    return this.arithmetic(() => this.power(), ['*', '/', '//', '%']);
  }

  protected power(): Expression {
    return this.arithmetic(() => this.unary(true), ['**']);
  }

  protected arithmetic(operand: () => Expression, operators: readonly Operator[]): Expression {
    let found: Operator | undefined;
    return this.leftToRight(
      operand,
      () => {
        found = operators.find((operator) => this.skip('operator', operator));
        return found !== undefined;
      },
      (left, right) => ({ kind: 'arithmetic', operator: found!, left, right }),
    );
  }

  /** A long chain becomes a deep tree, so its length counts as depth. */
  protected leftToRight(
    operand: () => Expression,
    next: () => boolean,
    join: (left: Expression, right: Expression) => Expression,
  ): Expression {
    let value = operand();
    for (let length = 0; next(); length++) {
      if (length > MAX_CHAIN) this.fail('an expression is too long');
      value = join(value, operand());
    }
    return value;
  }

  protected unary(filtered: boolean): Expression {
    let value: Expression;
    if (this.skip('operator', '-')) value = { kind: 'negative', value: this.deeper(() => this.unary(false)) };
    else if (this.skip('operator', '+'))
      value = { kind: 'positive', value: this.deeper(() => this.unary(false)) };
    else value = this.primary();
    value = this.postfix(value);
    return filtered ? this.filtersAndTests(value) : value;
  }

  protected primary(): Expression {
    const token = this.take();
    switch (token.type) {
      case 'name': {
        if (CONSTANTS.has(token.text)) return { kind: 'const', value: CONSTANTS.get(token.text)! };
        this.uses.at(-1)?.add(token.text);
        return { kind: 'name', name: token.text };
      }
      case 'string': {
        let value = token.text;
        while (this.current.type === 'string') value += this.take().text;
        return { kind: 'const', value };
      }
      case 'integer':
        if (token.text.length > MAX_DIGITS) this.fail('a number is too long', token);
        return { kind: 'const', value: BigInt(token.text) };
      case 'float':
        return { kind: 'const', value: Number(token.text) };
      case 'operator':
        if (token.text === '(') {
          const inner = this.tuple({ parentheses: true });
          this.expect('operator', ')');
          return inner;
        }
        if (token.text === '[') return { kind: 'list', items: this.items(']', () => this.expression()) };
        if (token.text === '{') {
          const pair = (): [Expression, Expression] => {
            const key = this.expression();
            this.expect('operator', ':');
            return [key, this.expression()];
          };
          return { kind: 'dict', pairs: this.items('}', pair) };
        }
    }
    return this.fail(`expected an expression, found ${described(token)}`, token);
  }

  protected items<T>(end: string, read: () => T): T[] {
    const items: T[] = [];
    while (!this.operator(end)) {
      if (items.length > 0) this.expect('operator', ',');
      if (this.operator(end)) break;
      items.push(read());
    }
    this.expect('operator', end);
    return items;
  }

  protected postfix(start: Expression): Expression {
    let value = start;
    for (let length = 0; ; length++) {
      if (length > MAX_CHAIN) this.fail('an expression is too long');
      if (this.skip('operator', '.')) {
        const token = this.take();
        if (token.type === 'name') value = { kind: 'attribute', object: value, name: token.text };
        else if (token.type === 'integer') {
          value = { kind: 'item', object: value, key: { kind: 'const', value: BigInt(token.text) } };
        } else this.fail(`expected a name or a number, found ${described(token)}`, token);
      } else if (this.skip('operator', '[')) value = this.subscript(value);
      else if (this.skip('operator', '(')) value = { kind: 'call', callee: value, args: this.args() };
      else return value;
    }
  }

  protected subscript(object: Expression): Expression {
    const bounds: (Expression | undefined)[] = [];
    const at = () => (this.operator(':') || this.operator(']') ? undefined : this.expression());
    bounds.push(at());
    while (this.skip('operator', ':')) bounds.push(at());
    if (this.operator(',')) this.fail('several subscripts in one are not supported');
    this.expect('operator', ']');
    if (bounds.length > 3) this.fail('a slice has more than three parts');
    if (bounds.length > 1) return { kind: 'slice', object, bounds };
    const [key] = bounds;
    if (key === undefined) return this.fail('a subscript is empty');
    return { kind: 'item', object, key };
  }

  /** Behind the parenthesis that opens. */
  protected args(): CallArguments {
    const positional: Expression[] = [];
    const named: [string, Expression][] = [];
    let spread: Expression | undefined;
    let namedSpread: Expression | undefined;
    let first = true;
    while (!this.operator(')')) {
      if (!first) {
        this.expect('operator', ',');
        if (this.operator(')')) break;
      }
      first = false;
      const misplaced = 'an argument stands at a place where it cannot';
      if (this.skip('operator', '*')) {
        if (spread || namedSpread) this.fail(misplaced);
        spread = this.expression();
      } else if (this.skip('operator', '**')) {
        if (namedSpread) this.fail(misplaced);
        namedSpread = this.expression();
      } else if (this.current.type === 'name' && this.isAt('operator', '=', 1)) {
        if (namedSpread) this.fail(misplaced);
        const name = this.name();
        this.take();
        if (named.some(([other]) => other === name)) this.fail(`the argument ${name} is given twice`);
        named.push([name, this.expression()]);
      } else {
        if (spread || namedSpread || named.length > 0) this.fail(misplaced);
        positional.push(this.expression());
      }
    }
    this.take();
    return { positional, named, spread, namedSpread };
  }

  protected filtersAndTests(start: Expression): Expression {
    let value = start;
    for (let length = 0; ; length++) {
      if (length > MAX_CHAIN) this.fail('an expression is too long');
      if (this.operator('|')) value = this.filters(value, false)!;
      else if (this.isAt('name', 'is')) value = this.test(value);
      else if (this.skip('operator', '(')) value = { kind: 'call', callee: value, args: this.args() };
      else return value;
    }
  }

  /** A chain of filters; the first without its `|` when `started`. */
  protected filters(start: Expression | undefined, started: boolean): Expression | undefined {
    let value = start;
    for (let first = started, length = 0; first || this.skip('operator', '|'); first = false, length++) {
      if (length > MAX_CHAIN) this.fail('an expression is too long');
      const name = this.dotted();
      const args = this.skip('operator', '(') ? this.args() : NO_ARGUMENTS;
      value = { kind: 'filter', value, name, args };
    }
    return value;
  }

  protected dotted(): string {
    let name = this.name();
    while (this.skip('operator', '.')) name += `.${this.name()}`;
    return name;
  }

  protected test(value: Expression): Expression {
    this.take();
    const negated = this.skip('name', 'not');
    const name = this.dotted();
    let args = NO_ARGUMENTS;
    if (this.skip('operator', '(')) args = this.args();
    else if (this.startsArgument()) {
      if (this.keyword('is')) this.fail('tests cannot be chained with is');
      const argument = this.postfix(this.primary());
      args = { ...NO_ARGUMENTS, positional: [argument] };
    }
    const test: Expression = { kind: 'test', value, name, args };
    return negated ? { kind: 'not', value: test } : test;
  }

  protected startsArgument(): boolean {
    const { type } = this.current;
    if (type === 'name') return !this.keyword('else', 'or', 'and');
    return (
      type === 'string' || type === 'integer' || type === 'float' || this.operator('[') || this.operator('{')
    );
  }
}

interface TupleOptions {
  /** Whether `a if b` is taken whole. */
  condition?: boolean;
  /** A name that ends it. */
  end?: string;
  /** Whether parentheses stand around, between which there may be nothing. */
  parentheses?: boolean;
}

const MAX_CHAIN = 1_000;
const MAX_DIGITS = 4_000;
const NO_ARGUMENTS: CallArguments = { positional: [], named: [], spread: undefined, namedSpread: undefined };
/** Names that stand for values. */
export const CONSTANTS = new Map([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
  ['none', null],
  ['None', null],
]);
