/**
 * Jinja templates as Python's jinja2 renders them for Hugging Face chat templates: what it prints, this prints; what is
 * not supported is refused by name. A template comes with a model and is a program: it runs on a budget of steps, text
 * and depth (budget.ts), and reaches nothing but what it is given.
 */
import { UserError } from '../../base/errors.js';
import { stringOf, take } from './arguments.js';
import { setOf } from './attributes.js';
import { Budget } from './budget.js';
import { pythonValue, sizeOf } from './fromJson.js';
import type { GrowingList } from './growing.js';
import { Interpreter } from './interpreter.js';
import { parse } from './parser.js';
import { itemsOf, pythonStr } from './print.js';
import { strftime } from './strftime.js';
import { type Arguments, Callable, Dict, isInteger, Namespace, Range, typeOf, type Value } from './values.js';

/** Real chat templates have at most some 30,000 characters. */
const MAX_TEMPLATE_CHARACTERS = 200_000;

/** What a template is given besides its own text. */
export interface JinjaContext {
  /** The variables (pythonValue says how JavaScript's values are taken); undefined ones count as not defined. */
  variables: Readonly<Record<string, unknown>>;
  /** What `strftime_now` takes for now. */
  now: Date;
  /** A further variable: the beginning of a list that is rendered again and again while it grows. */
  growing?: { name: string; list: GrowingList; count: number; kind: string };
}

/** A template that was read and may be rendered any number of times. */
export type JinjaTemplate = (context: JinjaContext) => string;

/**
 * Reads a template with the settings of transformers: trim_blocks, lstrip_blocks, loop controls, `tojson`,
 * `raise_exception`, `strftime_now`; what `{% generation %}` marks is printed without the marks.
 * @throws UserError when it cannot be read; its function throws UserError when the template refuses its input, uses what
 * is not supported, or takes more steps or text than its input can explain.
 */
export function compileJinja(text: string): JinjaTemplate {
  if (text.length > MAX_TEMPLATE_CHARACTERS) {
    throw new UserError(
      `the template has ${text.length} characters, more than the ${MAX_TEMPLATE_CHARACTERS} allowed`,
    );
  }
  const statements = guarded('read', () => parse(text));
  return ({ variables, now, growing }) =>
    guarded('rendered', () => {
      const given = new Map(Object.entries(variables).filter(([, value]) => value !== undefined));
      const { items, characters } = sizeOf([...given.values()]);
      const more = growing?.list.size(growing.count) ?? { items: 0, characters: 0 };
      const budget = new Budget(items + more.items, characters + more.characters + text.length);
      const growth = growing?.list.first(growing.count, growing.kind);
      const globals = globalsOf(now, budget, growth?.namespaces ?? []);
      for (const [name, value] of given) globals.set(name, pythonValue(value));
      if (growing && growth) globals.set(growing.name, growth.list);
      const rendered = new Interpreter(budget, globals, growth).render(statements);
      growing?.list.spend(budget.used);
      return rendered;
    });
}

/** The engine's stack may end before the depths that are counted do. */
function guarded<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof RangeError)
      throw new UserError(`the template cannot be ${what}: it nests too deeply`);
    throw error;
  }
}

/** `made` gains the namespaces that the template makes. */
function globalsOf(now: Date, budget: Budget, made: Namespace[]): Map<string, Value> {
  const functions: Record<string, (args: Arguments) => Value> = {
    raise_exception: (args) => {
      const [message = ''] = take('raise_exception', args, ['message']);
      throw new UserError(`the template refuses it: ${pythonStr(message, budget).slice(0, 2_000)}`);
    },
    strftime_now: (args) => {
      const format = stringOf('strftime_now', take('strftime_now', args, ['format'])[0]);
      budget.text(format.length * 16);
      return strftime(format, now);
    },
    range: rangeOf,
    namespace: ({ positional, named }) => {
      const namespace = new Namespace();
      made.push(namespace);
      for (const [key, value] of dictOf('namespace', { positional, named }, budget).pairs()) {
        setOf(namespace, stringOf('namespace', key), value);
      }
      return namespace;
    },
    dict: (args) => dictOf('dict', args, budget),
  };
  for (const name of ['lipsum', 'cycler', 'joiner']) {
    functions[name] = () => {
      throw new UserError(`the template calls ${name}, which is not supported`);
    };
  }
  return new Map(Object.entries(functions).map(([name, call]) => [name, new Callable(name, call)]));
}

function rangeOf({ positional, named }: Arguments): Value {
  const numbers = positional.map((value) => {
    if (!isInteger(value)) throw new UserError(`the template calls range with ${typeOf(value)}`);
    return BigInt(value);
  });
  if (numbers.length === 0 || numbers.length > 3 || named.size > 0 || numbers[2] === 0n) {
    throw new UserError(`the template calls range(${numbers.join(', ')})`);
  }
  const [first, second, step = 1n] = numbers;
  return second === undefined ? new Range(0n, first, 1n) : new Range(first, second, step);
}

function dictOf(function_: string, { positional, named }: Arguments, budget: Budget): Dict {
  const [first] = take(function_, { positional, named: new Map() }, ['mapping']);
  const dict = new Dict();
  if (first instanceof Dict) for (const [key, value] of first.pairs()) dict.set(key, value);
  else if (first !== undefined) {
    for (const pair of itemsOf(first, budget)) {
      const items = itemsOf(pair, budget);
      if (items.length !== 2) throw new UserError(`the template gives ${function_} what are no pairs`);
      dict.set(items[0], items[1]);
    }
  }
  for (const [key, value] of named) dict.set(key, value);
  return dict;
}
