/** Flags made from zod schemas: an option is declared once, with its check and its help. */
import { InvalidArgumentError, Option } from 'commander';
import * as z from 'zod';
import { kebabCase } from '../base/names.js';
import { issueText } from '../formats/io/json.js';

/** Characters of a value's name; longer choices are told in the text. */
const LONGEST_VALUE = 18;

/**
 * The flags of an option. What is not given stays undefined, so that a default here never hides a config file;
 * the help tells it. A boolean has --x and --no-x, of which the help shows the one that changes something.
 * A list takes its flag again, and commas where its items cannot have any; any other flag is given once.
 */
export function flagsOf(name: string, schema: z.ZodType, group: string): Option[] {
  const bare = unwrapped(schema);
  const flag = `--${kebabCase(name)}`;
  const help = `${metaOf(schema).description ?? ''}${listNote(bare)}${choicesNote(bare)}${defaultNote(schema)}`;
  if (bare instanceof z.ZodBoolean) {
    const on = defaultOf(schema) === true;
    return [
      new Option(flag, help).helpGroup(group).hideHelp(on),
      new Option(`--no-${flag.slice(2)}`, `do not ${help}`).helpGroup(group).hideHelp(!on),
    ];
  }
  const option = new Option(`${flag} <${valueName(schema)}>`, help).helpGroup(group);
  option.argParser((text, previous: unknown) => {
    const value = readFlag(bare, text);
    return previous === undefined ? value : joined(flag, previous, value);
  });
  return [option];
}

/** The value that a flag's text means. Throws InvalidArgumentError that says what was expected. */
export function readFlag(schema: z.ZodType, text: string): unknown {
  const result = schema.safeParse(textTo(schema, text));
  if (result.success) return result.data;
  // Whatever is typed is text.
  throw new InvalidArgumentError(issueText(result.error.issues[0]).replace(/, received string$/, ''));
}

/** What two uses of a flag mean together. */
function joined(flag: string, previous: unknown, value: unknown): unknown {
  if (Array.isArray(previous) && Array.isArray(value)) return [...previous, ...value];
  throw new InvalidArgumentError(`${flag} was given before as ${textOf(previous)}`);
}

function textTo(schema: z.ZodType, text: string): unknown {
  if (schema instanceof z.ZodNumber) return strictNumber(text);
  if (schema instanceof z.ZodBoolean) return booleanOf(text);
  if (schema instanceof z.ZodArray) {
    const items = hasCommas(schema) ? text.split(',').map((item) => item.trim()) : [text];
    return items.map((item) => textTo(schema.element as z.ZodType, item));
  }
  if (schema instanceof z.ZodRecord || schema instanceof z.ZodObject) return jsonOf(text);
  if (schema instanceof z.ZodUnion) {
    // A list first: what is one item or several is a list, whatever else it could be.
    const options = [...(schema.options as z.ZodType[])].sort(
      (a, b) => Number(isList(b)) - Number(isList(a)),
    );
    const values = options.flatMap((option) => {
      // What is no JSON may still be one of the others.
      if (option instanceof z.ZodRecord && !text.trimStart().startsWith('{')) return [];
      const value = textTo(option, text);
      return option.safeParse(value).success ? [value] : [];
    });
    return values[0];
  }
  return text;
}

/** `Number` takes "", " 1" and "0x10" too, and makes NaN of the rest in silence. */
function strictNumber(text: string): number | string {
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : text;
}

function booleanOf(text: string): boolean | string {
  return text === 'true' || (text === 'false' ? false : text);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('expected a JSON object');
  }
}

function isList(schema: z.ZodType): schema is z.ZodArray {
  return schema instanceof z.ZodArray;
}

/** The list that an option is, or may be. */
function listOf(schema: z.ZodType): z.ZodArray | undefined {
  return schema instanceof z.ZodUnion
    ? (schema.options as z.ZodType[]).find(isList)
    : isList(schema)
      ? schema
      : undefined;
}

/**
 * Whether commas stand between a list's items: where no item can have one, as names and numbers, unlike texts, paths and
 * lists.
 */
function hasCommas({ element }: z.ZodArray): boolean {
  const item = element as z.ZodType;
  if (isList(item)) return false;
  return !item.safeParse(textTo(item, 'a,b')).success;
}

/** What stands for a flag's value in the help: what the schema calls it, else its kind. */
function valueName(schema: z.ZodType): string {
  const name = metaOf(schema).valueName;
  return typeof name === 'string' ? name : kindOf(unwrapped(schema));
}

function kindOf(schema: z.ZodType): string {
  if (schema instanceof z.ZodEnum) {
    const choices = schema.options.join('|');
    return choices.length <= LONGEST_VALUE ? choices : 'name';
  }
  if (schema instanceof z.ZodNumber) return schema.isInt ? 'n' : 'x';
  if (schema instanceof z.ZodRecord || schema instanceof z.ZodObject) return 'json';
  if (schema instanceof z.ZodBoolean) return 'true|false';
  if (schema instanceof z.ZodLiteral) return [...schema.values].join('|');
  if (isList(schema)) {
    const kind = kindOf(schema.element as z.ZodType);
    return hasCommas(schema) ? `${kind},...` : kind;
  }
  if (schema instanceof z.ZodUnion) {
    // Of a list, what one item is says nothing more.
    const list = listOf(schema);
    const others = (schema.options as z.ZodType[]).filter((option) => option !== list).map(kindOf);
    const item = list && kindOf(list.element as z.ZodType);
    const kinds = [
      ...(list ? [kindOf(list)] : []),
      ...others.filter((kind) => !list || (kind !== item && kind !== 'text')),
    ];
    const text = [...new Set(kinds)].join('|');
    return text.length <= LONGEST_VALUE ? text : 'value';
  }
  return 'text';
}

/** The choices that the value's name has no room for. */
function choicesNote(schema: z.ZodType): string {
  return schema instanceof z.ZodEnum && kindOf(schema) === 'name'
    ? `; one of ${schema.options.join(', ')}`
    : '';
}

function listNote(schema: z.ZodType): string {
  const list = listOf(schema);
  return list && !hasCommas(list) ? ' (may be repeated)' : '';
}

function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodOptional
    ? unwrapped(schema.unwrap() as z.ZodType)
    : schema;
}

/** What a schema says of itself; optional() and default() leave that where it was. */
function metaOf(schema: z.ZodType): z.core.GlobalMeta {
  const wrapped = schema instanceof z.ZodDefault || schema instanceof z.ZodOptional;
  return { ...(wrapped && metaOf(schema.unwrap() as z.ZodType)), ...schema.meta() };
}

/** The default of an option; undefined without one. */
function defaultOf(schema: z.ZodType): unknown {
  if (schema instanceof z.ZodOptional) return defaultOf(schema.unwrap() as z.ZodType);
  return schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined;
}

/** A plain switch needs no note: the help shows the one of its two flags that changes something. */
function defaultNote(schema: z.ZodType): string {
  const value = defaultOf(schema);
  if (value === undefined || unwrapped(schema) instanceof z.ZodBoolean) return '';
  if (typeof value === 'object' && Object.keys(value as object).length === 0) return '';
  return ` (default: ${textOf(value)})`;
}

/** Options as they would be typed: flagsOf's inverse. */
export function toFlags(shape: z.ZodRawShape, given: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(given).flatMap(([name, value]) => {
    if (value === undefined) return [];
    const schema = unwrapped(shape[name] as z.ZodType);
    const flag = `--${kebabCase(name)}`;
    if (schema instanceof z.ZodBoolean) return [value ? flag : `--no-${flag.slice(2)}`];
    const list = listOf(schema);
    if (list && Array.isArray(value) && !hasCommas(list))
      return value.flatMap((item) => [flag, shellWord(String(item))]);
    return [flag, shellWord(textOf(value))];
  });
}

/** An error's words for the library, with the options that it names as they are typed: evalSplit is --eval-split. */
export function inFlags(message: string, options: ReadonlySet<string>): string {
  return message
    .replace(/(?:the )?option "(\w+)"/g, (text, name) => (options.has(name) ? `--${kebabCase(name)}` : text))
    .replace(/(?<!["\w./-])[a-z]+[A-Z]\w*(?!["\w(./])/g, (name) =>
      options.has(name) ? `--${kebabCase(name)}` : name,
    );
}

/** A value as a flag has it. */
function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.join(',');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Text as a POSIX shell takes it for one word. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
