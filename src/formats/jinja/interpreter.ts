/** Runs a template's tree. Names live in scopes as jinja2's compiler lays them: one per iteration, block and macro. */
import { UserError } from '../../base/errors.js';
import { take } from './arguments.js';
import type { CallArguments, Expression, ForStatement, Signature, Statement, Target } from './ast.js';
import { missing, ownOf, setOf } from './attributes.js';
import type { Budget } from './budget.js';
import type { FilterContext } from './filter.js';
import { filterOf } from './filters.js';
import type { Growth } from './growing.js';
import { bindParameters } from './macro.js';
import { arithmetic, compare, joinTwo, slice, subscript } from './operations.js';
import { itemsOf, joined, pythonStr } from './print.js';
import { Scope } from './scope.js';
import { isTest, runTest } from './tests.js';
import { quoted } from './text.js';
import {
  type Arguments,
  Callable,
  Dict,
  isHashable,
  isNumber,
  List,
  Loop,
  Namespace,
  orElse,
  Tuple,
  truthy,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** Why a list of statements ended before its end. */
type Jump = 'break' | 'continue' | undefined;

export class Interpreter implements FilterContext {
  /** How many loops run within one another. */
  private loops = 0;

  constructor(
    readonly budget: Budget,
    private readonly globals: ReadonlyMap<string, Value>,
    private readonly growth?: Growth,
  ) {}

  render(statements: readonly Statement[]): string {
    const out: string[] = [];
    const scope = new Scope();
    for (const [name, value] of this.globals) scope.set(name, value);
    this.run(statements, new Scope(scope), out);
    return out.join('');
  }

  // Statements.

  private run(statements: readonly Statement[], scope: Scope, out: string[]): Jump {
    for (const statement of statements) {
      const jump = this.statement(statement, scope, out);
      if (jump) return jump;
    }
    return undefined;
  }

  private statement(statement: Statement, scope: Scope, out: string[]): Jump {
    this.budget.step();
    switch (statement.kind) {
      case 'text':
        this.write(statement.text, out);
        return undefined;
      case 'print':
        this.write(pythonStr(this.value(statement.value, scope), this.budget), out);
        return undefined;
      case 'if':
        for (const [test, body] of statement.branches) {
          if (truthy(this.value(test, scope))) return this.run(body, scope, out);
        }
        return this.run(statement.otherwise, scope, out);
      case 'for':
        this.loop(statement, this.value(statement.iterable, scope), scope, out, 1);
        return undefined;
      case 'break':
      case 'continue':
        return statement.kind;
      case 'set':
        this.assign(statement.target, this.value(statement.value, scope), scope);
        return undefined;
      case 'capture': {
        const text = this.captured(statement.body, new Scope(scope));
        const { filter } = statement;
        this.assign(statement.target, filter ? this.filtered(filter, text, scope) : text, scope);
        return undefined;
      }
      case 'with': {
        const inner = new Scope(scope);
        for (const [target, value] of statement.values) this.assign(target, this.value(value, scope), inner);
        return this.run(statement.body, inner, out);
      }
      case 'filtered': {
        const inner = new Scope(scope);
        const text = this.captured(statement.body, inner);
        this.write(pythonStr(this.filtered(statement.filter, text, inner), this.budget), out);
        return undefined;
      }
      case 'macro':
        scope.set(statement.name, this.macro(statement.name, statement.signature, scope));
        return undefined;
      case 'callBlock': {
        const { callee, args } = statement.call as Expression & { kind: 'call' };
        const caller = this.macro('caller', statement.signature, scope);
        const given = this.args(args, scope);
        const named = new Map(given.named).set('caller', caller);
        const result = this.call(this.value(callee, scope), { positional: given.positional, named });
        this.write(pythonStr(result, this.budget), out);
        return undefined;
      }
      case 'generation':
        this.run(statement.body, new Scope(scope), out);
        return undefined;
    }
  }

  private write(text: string, out: string[]): void {
    if (text === '') return;
    this.budget.text(text.length);
    out.push(text);
  }

  private captured(statements: readonly Statement[], scope: Scope): string {
    const out: string[] = [];
    this.run(statements, scope, out);
    return joined(out, '', this.budget);
  }

  private loop(statement: ForStatement, iterable: Value, scope: Scope, out: string[], depth: number): void {
    const { test } = statement;
    const items =
      iterable instanceof List && !test
        ? iterable
        : new List(
            itemsOf(iterable, this.budget).filter((item) => {
              if (!test) return true;
              const inner = new Scope(scope);
              this.assign(statement.target, item, inner);
              return truthy(this.value(test, inner));
            }),
          );
    const recurse = (inner: Value) =>
      this.budget.nested(() => {
        const written: string[] = [];
        this.loop(statement, inner, scope, written, depth + 1);
        return joined(written, '', this.budget);
      });
    // As jinja2 compiles it, a loop ran only if an iteration came to its end.
    let ran = false;
    const loop = new Loop(items, depth, statement.recursive ? recurse : undefined);
    const growing = this.loops++ === 0 ? this.growth?.loop(items, scope.held()) : undefined;
    const before = out.length;
    const mark = growing?.resume(loop);
    if (mark) {
      loop.index = mark.index;
      ran = mark.ran;
      out.push(mark.text());
    }
    for (; ; loop.index++) {
      const written = out.length;
      growing?.mark(loop, ran, () => out.slice(before, written).join(''));
      if (!items.has(loop.index)) break;
      this.budget.step();
      const inner = new Scope(scope);
      inner.set('loop', loop);
      this.assign(statement.target, items.at(loop.index)!, inner);
      const jump = this.run(statement.body, inner, out);
      if (jump === 'break') break;
      ran ||= jump === undefined;
    }
    this.loops--;
    if (!ran) this.run(statement.otherwise, new Scope(scope), out);
  }

  private assign(target: Target, value: Value, scope: Scope): void {
    if (target.kind === 'name') scope.set(target.name, value);
    else if (target.kind === 'attribute') {
      const namespace = scope.get(target.namespace);
      if (!(namespace instanceof Namespace)) {
        throw new UserError(`the template sets ${target.name} of ${target.namespace}, which is no namespace`);
      }
      setOf(namespace, target.name, value);
    } else {
      const items = itemsOf(value, this.budget, 'takes apart');
      if (items.length !== target.items.length) {
        throw new UserError(`the template takes ${items.length} values for ${target.items.length} names`);
      }
      for (const [i, each] of target.items.entries()) this.assign(each, items[i], scope);
    }
  }

  private macro(name: string, signature: Signature, scope: Scope): Callable {
    const call = (args: Arguments): Value =>
      this.budget.nested(() => {
        const inner = new Scope(scope);
        bindParameters(name, signature, args, inner, (otherwise) => this.value(otherwise, inner));
        return this.captured(signature.body, inner);
      });
    return new Callable(
      name,
      call,
      signature.parameters.map((parameter) => parameter.name),
    );
  }

  // Expressions.

  private value(node: Expression, scope: Scope): Value {
    this.budget.step();
    switch (node.kind) {
      case 'const':
        return node.value;
      case 'name':
        return this.named(node.name, scope);
      case 'list':
        return new List(node.items.map((item) => this.value(item, scope)));
      case 'tuple':
        return new Tuple(node.items.map((item) => this.value(item, scope)));
      case 'dict': {
        const dict = new Dict();
        for (const [key, item] of node.pairs) this.put(dict, this.value(key, scope), this.value(item, scope));
        return dict;
      }
      case 'attribute':
        return this.dotted(this.value(node.object, scope), node.name);
      case 'item':
        return this.item(this.value(node.object, scope), this.value(node.key, scope));
      case 'slice': {
        const object = this.value(node.object, scope);
        const bounds = node.bounds.map((bound) => bound && this.value(bound, scope));
        return slice(object, bounds, this.budget);
      }
      case 'call':
        return this.call(this.value(node.callee, scope), this.args(node.args, scope));
      case 'filter':
        return this.filter(node.name, this.value(node.value!, scope), this.args(node.args, scope));
      case 'test':
        return this.test(node.name, this.value(node.value, scope), this.args(node.args, scope));
      case 'not':
        return !truthy(this.value(node.value, scope));
      case 'negative':
        return this.signed(this.value(node.value, scope), -1n);
      case 'positive':
        return this.signed(this.value(node.value, scope), 1n);
      case 'and': {
        const left = this.value(node.left, scope);
        return truthy(left) ? this.value(node.right, scope) : left;
      }
      case 'or': {
        const left = this.value(node.left, scope);
        return truthy(left) ? left : this.value(node.right, scope);
      }
      case 'arithmetic':
        return arithmetic(
          node.operator,
          this.value(node.left, scope),
          this.value(node.right, scope),
          this.budget,
        );
      case 'concat':
        return node.parts
          .map((part) => pythonStr(this.value(part, scope), this.budget))
          .reduce((left, right) => joinTwo(left, right, this.budget));
      case 'compare': {
        let left = this.value(node.first, scope);
        for (const [operator, next] of node.rest) {
          const right = this.value(next, scope);
          if (!compare(operator, left, right, this.budget)) return false;
          left = right;
        }
        return true;
      }
      case 'condition':
        if (truthy(this.value(node.test, scope))) return this.value(node.value, scope);
        if (node.otherwise) return this.value(node.otherwise, scope);
        return new Undefined('the inline if-expression evaluated to false and no else section was defined.');
    }
  }

  private named(name: string, scope: Scope): Value {
    const value = scope.get(name);
    if (value !== undefined) return value;
    if (name === 'self') throw new UserError('the template uses self, which is not supported');
    return new Undefined(`${quoted(name)} is undefined`);
  }

  private put(dict: Dict, key: Value, item: Value): void {
    if (typeof key === 'string') this.budget.text(key.length);
    dict.set(key, item);
  }

  private signed(value: Value, sign: bigint): Value {
    if (value instanceof Undefined) return value.fail();
    if (!isNumber(value)) throw new UserError(`the template uses a sign on ${typeOf(value)}`);
    if (typeof value === 'number') return sign < 0n ? -value : value;
    return BigInt(value) * sign;
  }

  private args(args: CallArguments, scope: Scope): Arguments {
    const positional = args.positional.map((item) => this.value(item, scope));
    const named = new Map(args.named.map(([name, item]) => [name, this.value(item, scope)]));
    if (args.spread) positional.push(...itemsOf(this.value(args.spread, scope), this.budget));
    if (args.namedSpread) {
      const dict = this.value(args.namedSpread, scope);
      if (!(dict instanceof Dict))
        throw new UserError(`the template gives ${typeOf(dict)} for named arguments`);
      for (const [key, item] of dict.pairs()) {
        if (typeof key !== 'string' || named.has(key)) {
          throw new UserError('the template gives an argument twice, or one without a name');
        }
        named.set(key, item);
      }
    }
    return { positional, named };
  }

  private call(callee: Value, args: Arguments): Value {
    if (callee instanceof Undefined) return callee.fail();
    if (callee instanceof Callable) return callee.call(args);
    if (callee instanceof Loop && callee.recurse) {
      const [items] = take('loop', args, ['iterable']);
      if (items === undefined) throw new UserError('the template calls loop without what to loop over');
      return callee.recurse(items);
    }
    if (callee instanceof Loop) throw new UserError('the template calls a loop that is not recursive');
    throw new UserError(`the template calls ${typeOf(callee)}`);
  }

  filter(name: string, value: Value, args: Arguments): Value {
    this.budget.step();
    const filter = filterOf(name);
    if (!filter) throw new UserError(`the template uses the filter ${name}, which is not supported`);
    return filter(value, args, this);
  }

  /** A chain of filters over the text of the block that it stands on. */
  private filtered(node: Expression, text: string, scope: Scope): Value {
    if (node.kind !== 'filter') return this.value(node, scope);
    const value = node.value ? this.filtered(node.value, text, scope) : text;
    return this.filter(node.name, value, this.args(node.args, scope));
  }

  test(name: string, value: Value, args: Arguments): boolean {
    if (name === 'filter' || name === 'test') {
      take(name, args, []);
      if (!isHashable(value))
        throw new UserError(`the template asks whether ${typeOf(value)} names a ${name}`);
      return typeof value === 'string' && (name === 'test' ? isTest(value) : filterOf(value) !== undefined);
    }
    return runTest(name, value, args, this.budget);
  }

  /** `object.name`: what the object has by that name, else what it holds under that key. */
  private dotted(object: Value, name: string): Value {
    if (object instanceof Undefined) return object.fail();
    const own = ownOf(object, name, this.budget);
    if (own !== undefined) return own;
    return orElse(subscript(object, name, this.budget), missing(object, name));
  }

  /** `object[key]`: the other way round. */
  item(object: Value, key: Value): Value {
    if (object instanceof Undefined) return object.fail();
    const held = subscript(object, key, this.budget);
    if (held !== undefined) return held;
    const own = typeof key === 'string' ? ownOf(object, key, this.budget) : undefined;
    return orElse(own, missing(object, key));
  }

  attribute(object: Value, name: string): Value {
    if (object instanceof Undefined) return object.fail();
    return orElse(ownOf(object, name, this.budget), missing(object, name));
  }
}
