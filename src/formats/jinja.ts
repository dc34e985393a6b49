/**
 * Jinja templates rendered as Python's jinja2 renders them for Hugging Face chat templates. The parser and
 * interpreter are @huggingface/jinja's; where it would silently print something else than Python (0.5.11:
 * `strip(chars)`, `None`, `==` by JavaScript's rules, loop variables that outlive their iteration …) this
 * file computes Python's answer or refuses. What the library does not know at all fails there by itself.
 */
import * as jinja from '@huggingface/jinja';
import { messageOf, UserError } from '../base/errors.js';
import { type Node, prepare } from './jinjaPrepare.js';
import {
  ITERABLES,
  isList,
  isNumber,
  isString,
  pythonEquals,
  pythonStr,
  typeOf,
  type Value,
} from './jinjaValues.js';
import { range, STRING_FILTERS, STRING_METHODS, strftime } from './pythonText.js';

// The package's declarations do not resolve under NodeNext: these are the parts of its API used here.
interface Scope {
  readonly variables: Map<string, Value>;
  set(name: string, value: unknown): Value;
}
interface BaseInterpreter {
  run(program: Node): Value;
  evaluate(node: Node | undefined, scope: Scope): Value;
}
const { tokenize, parse } = jinja as {
  tokenize(text: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }): unknown[];
  parse(tokens: unknown[]): Node & { readonly body: Node[] };
};
const Environment: new () => Scope = jinja.Environment;
const Interpreter: new (globals: Scope) => BaseInterpreter = jinja.Interpreter;

/** Real chat templates have at most some 30,000 characters. */
const MAX_TEMPLATE_CHARACTERS = 200_000;
/** The library's preprocessing takes quadratic time in a run of blanks. */
const MAX_BLANK_RUN = 2_000;
/** A thousand turns take some 100,000 steps; this many (two seconds) only a template that never ends. */
const MAX_STEPS = 1_000_000;

/** What a template is given besides its own text. */
export interface JinjaContext {
  /** The variables; undefined ones count as not defined, null is Python's None. */
  variables: Readonly<Record<string, unknown>>;
  /** What `strftime_now` takes for now. */
  now: Date;
}

/** A template that was read and may be rendered any number of times. */
export type JinjaTemplate = (context: JinjaContext) => string;

/**
 * Reads a template with the settings of transformers: trim_blocks, lstrip_blocks, loop controls,
 * `tojson`, `raise_exception`, `strftime_now`; `{% generation %}` markers are dropped.
 * @throws UserError when it cannot be read or would not be rendered as in Python; its function throws
 * UserError when the template refuses its input or uses what is not supported.
 */
export function compileJinja(text: string): JinjaTemplate {
  const source = text.replace(/\r\n?/g, '\n');
  if (source.length > MAX_TEMPLATE_CHARACTERS) {
    throw new UserError(
      `the template has ${source.length} characters, more than the ${MAX_TEMPLATE_CHARACTERS} allowed`,
    );
  }
  if (new RegExp(`\\s{${MAX_BLANK_RUN}}`).test(source)) {
    throw new UserError(`the template has more than ${MAX_BLANK_RUN} blanks in a row`);
  }
  let program: Node & { readonly body: Node[] };
  try {
    program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  } catch (error) {
    // Running off the end of the tokens shows as a TypeError.
    const what = error instanceof TypeError ? 'it ends inside a block or an expression' : messageOf(error);
    throw new UserError(`the template cannot be read: ${what}`);
  }
  const printed = prepare(program);
  return ({ variables, now }) => {
    try {
      const globals = globalScope(now);
      for (const [name, value] of Object.entries(variables)) globals.set(name, value);
      return String(new PythonInterpreter(globals, printed).run(program).value);
    } catch (error) {
      if (error instanceof UserError) throw error;
      const what = error instanceof RangeError ? 'it never ends or nests too deeply' : messageOf(error);
      throw new UserError(`the template cannot be rendered: ${what}`);
    }
  };
}

function globalScope(now: Date): Scope {
  const scope = new Environment();
  for (const name of ['true', 'True']) scope.set(name, true);
  for (const name of ['false', 'False']) scope.set(name, false);
  for (const name of ['none', 'None']) scope.set(name, null);
  scope.set('raise_exception', (message: unknown) => {
    throw new UserError(`the template refuses it: ${String(message)}`);
  });
  scope.set('range', range);
  scope.set('strftime_now', (format: unknown) => strftime(String(format), now));
  return scope;
}

/** The library's interpreter with Python's meaning of what it takes another way. */
class PythonInterpreter extends Interpreter {
  private steps = 0;

  constructor(
    private readonly globals: Scope,
    private readonly printed: ReadonlySet<Node>,
  ) {
    super(globals);
  }

  override evaluate(node: Node | undefined, scope: Scope): Value {
    if (++this.steps > MAX_STEPS) throw new RangeError('too many steps');
    const value = (node && this.asPython(node, scope)) ?? super.evaluate(node, scope);
    return node !== undefined && this.printed.has(node) ? this.string(pythonStr(value)) : value;
  }

  /** The value of a node that the library would get wrong, else undefined. */
  private asPython(node: Node, scope: Scope): Value | undefined {
    switch (node.type) {
      case 'Known':
        return node.known as Value;
      case 'FreshIteration':
        // A loop has one scope in the library, one per iteration in jinja2.
        for (const name of [...scope.variables.keys()]) {
          const keeps = name === 'loop' || name === 'namespace' || (node.keep as Set<unknown>).has(name);
          if (!keeps) scope.variables.delete(name);
        }
        return super.evaluate({ type: 'Comment' }, scope);
      case 'MemberExpression':
        return this.member(node, scope);
      case 'For':
        return this.loop(node, scope);
      case 'TestExpression': {
        if ((node.test as Node).value !== 'iterable') return undefined;
        const { type } = this.evaluate(node.operand as Node, scope);
        return this.boolean(ITERABLES.has(type) !== node.negate);
      }
      case 'BinaryExpression':
        return this.binary(node, scope);
      case 'CallExpression':
        return this.call(node, scope);
      case 'FilterExpression':
        return this.filter(node, scope);
      default:
        return undefined;
    }
  }

  /** Python loops over nothing where something is undefined, and over a string's characters; the library fails. */
  private loop(node: Node, scope: Scope): Value {
    const iterable = node.iterable as Node;
    const filtered = iterable.type === 'SelectExpression';
    const value = this.evaluate(filtered ? (iterable.lhs as Node) : iterable, scope);
    const listed = isString(value) ? [...value.value].map((c) => known(this.string(c))) : [];
    const items =
      isString(value) || value.type === 'UndefinedValue'
        ? { type: 'ArrayLiteral', value: listed }
        : known(value);
    return super.evaluate({ ...node, iterable: filtered ? { ...iterable, lhs: items } : items }, scope);
  }

  /** What a dict cannot have as a key, it has not: the library fails there. */
  private member(node: Node, scope: Scope): Value | undefined {
    const property = node.property as Node;
    if (!node.computed || property.type === 'SliceExpression') return undefined;
    const object = this.evaluate(node.object as Node, scope);
    const key = this.evaluate(property, scope);
    if (object.value instanceof Map && !isString(key)) return super.evaluate(UNDEFINED, scope);
    return super.evaluate({ ...node, object: known(object), property: known(key) }, scope);
  }

  private binary(node: Node, scope: Scope): Value | undefined {
    const operator = String((node.operator as { value: unknown }).value);
    if (operator === 'and' || operator === 'or') return undefined;
    const left = this.evaluate(node.left as Node, scope);
    const right = this.evaluate(node.right as Node, scope);
    switch (operator) {
      case '==':
        return this.boolean(pythonEquals(left, right));
      case '!=':
        return this.boolean(!pythonEquals(left, right));
      case 'in':
      case 'not in':
        if (!isList(right)) break;
        return this.boolean(right.value.some((item) => pythonEquals(left, item)) === (operator === 'in'));
      case '~':
        return this.string(pythonStr(left) + pythonStr(right));
      case '+':
        if ((isString(left) || isString(right)) && left.type !== right.type) {
          throw new UserError(`the template adds ${typeOf(right)} to ${typeOf(left)}`);
        }
        break;
      case '%':
        if (!isNumber(left) || !isNumber(right) || Number(left.value) < 0 || Number(right.value) < 0) {
          throw new UserError(`the template uses % on ${typeOf(left)} and ${typeOf(right)}`);
        }
    }
    return super.evaluate({ ...node, left: known(left), right: known(right) }, scope);
  }

  private call(node: Node, scope: Scope): Value | undefined {
    const callee = node.callee as Node;
    const method = callee.type === 'MemberExpression' && !callee.computed && (callee.property as Node).value;
    if (typeof method !== 'string' || !Object.hasOwn(STRING_METHODS, method)) return undefined;
    const object = this.evaluate(callee.object as Node, scope);
    if (!isString(object)) {
      return super.evaluate({ ...node, callee: { ...callee, object: known(object) } }, scope);
    }
    return this.string(
      STRING_METHODS[method](object.value, this.characters(method, node.args as Node[], scope)),
    );
  }

  private filter(node: Node, scope: Scope): Value | undefined {
    const call = node.filter as Node;
    const [name, args] =
      call.type === 'CallExpression'
        ? [String((call.callee as Node).value), call.args as Node[]]
        : [String(call.value), []];
    const operand = this.evaluate(node.operand as Node, scope);
    if (isString(operand) && Object.hasOwn(STRING_FILTERS, name)) {
      return this.string(STRING_FILTERS[name](operand.value, this.characters(name, args, scope)));
    }
    switch (name) {
      case 'length':
        // Python counts code points, and something undefined as empty.
        if (isString(operand)) return this.integer([...operand.value].length);
        if (operand.type === 'UndefinedValue') return this.integer(0);
        break;
      case 'string':
        return this.string(pythonStr(operand));
      case 'join':
        if (isList(operand)) {
          const items = operand.value.map((item) => known(this.string(pythonStr(item))));
          if (args.length > 1 || args.some((arg) => arg.type !== 'StringLiteral')) {
            throw new UserError('the template uses join with other than one literal separator');
          }
          return super.evaluate({ ...node, operand: { type: 'ArrayLiteral', value: items } }, scope);
        }
        break;
      case 'map':
        if (isList(operand) && args.length === 1 && args[0].type === 'StringLiteral') {
          const filter = { type: 'Identifier', value: args[0].value };
          const each = (item: Value) =>
            this.evaluate({ type: 'FilterExpression', operand: known(item), filter }, scope);
          const items = operand.value.map((item) => known(each(item)));
          return super.evaluate({ type: 'ArrayLiteral', value: items }, scope);
        }
        break;
      case 'selectattr':
      case 'rejectattr':
        if (isList(operand) && args.length >= 2) {
          const [attribute, test, wanted] = args.map((arg) => this.evaluate(arg, scope));
          const kept = operand.value.filter(
            (item) => this.passes(item, attribute, test, wanted) === (name === 'selectattr'),
          );
          return super.evaluate({ type: 'ArrayLiteral', value: kept.map(known) }, scope);
        }
        break;
      case 'unique':
        throw new UserError('the template uses the filter unique, which is not supported');
      case 'tojson':
        if (args.some((arg) => arg.type !== 'KeywordArgumentExpression' || keyOf(arg) === 'sort_keys')) {
          throw new UserError('the template uses tojson with sort_keys or arguments by position');
        }
    }
    return super.evaluate({ ...node, operand: known(operand) }, scope);
  }

  /** Whether an item's attribute passes a test; where the item lacks it, that of something undefined. */
  private passes(item: Value, attribute: Value, test: Value, wanted: Value | undefined): boolean {
    const place = {
      type: 'MemberExpression',
      object: known(item),
      property: known(attribute),
      computed: true,
    };
    const found = this.evaluate(place, this.globals);
    if (wanted === undefined) {
      const name = { type: 'Identifier', value: test.value };
      const node = { type: 'TestExpression', operand: known(found), negate: false, test: name };
      return this.evaluate(node, this.globals).value === true;
    }
    if (['equalto', 'eq', '=='].includes(String(test.value))) return pythonEquals(found, wanted);
    throw new UserError(`the template selects by the test ${String(test.value)}, which is not supported`);
  }

  /** The argument of strip and trim: the characters to take away; undefined stands for white space. */
  private characters(method: string, args: readonly Node[], scope: Scope): string | undefined {
    if (args.length === 0) return undefined;
    const value = this.evaluate(args[0], scope);
    if (args.length === 1 && /strip|trim/.test(method) && (isString(value) || value.type === 'NullValue')) {
      return isString(value) ? value.value : undefined;
    }
    throw new UserError(`the template gives ${method} arguments that are not supported`);
  }

  private string(value: string): Value {
    return super.evaluate({ type: 'StringLiteral', value }, this.globals);
  }

  private integer(value: number): Value {
    return super.evaluate({ type: 'IntegerLiteral', value }, this.globals);
  }

  private boolean(value: boolean): Value {
    return super.evaluate({ type: 'Identifier', value: value ? 'True' : 'False' }, this.globals);
  }
}

/** A name that no template can have. */
const UNDEFINED: Node = { type: 'Identifier', value: ' ' };

/** A node that stands for a value already computed, so that nothing is evaluated twice. */
function known(value: Value): Node {
  return { type: 'Known', known: value };
}

function keyOf(argument: Node): unknown {
  return (argument.key as Node).value;
}
