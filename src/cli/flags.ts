/** Flags made from zod schemas: an option is declared once, with its check and its help. */
import { InvalidArgumentError, Option } from 'commander';
import * as z from 'zod';
import { kebabCase } from '../base/names.js';

/**
 * The flags of an option. What is not given stays undefined, so that a default here never hides a config file;
 * the help tells it. A boolean has --x and --no-x, of which the help shows the one that changes something.
 */
export function flagsOf(name: string, schema: z.ZodType, group: string): Option[] {
  const bare = unwrapped(schema);
  const kebab = kebabCase(name);
  const help = `${descriptionOf(schema)}${repeats(bare) ? ' (may be repeated)' : ''}${defaultNote(schema)}`;
  if (bare instanceof z.ZodBoolean) {
    const on = defaultOf(schema) === true;
    return [
      new Option(`--${kebab}`, help).helpGroup(group).hideHelp(on),
      new Option(`--no-${kebab}`, `do not ${help}`).helpGroup(group).hideHelp(!on),
    ];
  }
  const flag = new Option(`--${kebab} <${valueName(bare)}>`, help).helpGroup(group);
  flag.argParser((text, previous: unknown) => {
    const value = readFlag(bare, text);
    return repeats(bare) && Array.isArray(previous) ? [...previous, ...(value as unknown[])] : value;
  });
  return [flag];
}

/** The value that a flag's text means. Throws InvalidArgumentError that says what was expected. */
export function readFlag(schema: z.ZodType, text: string): unknown {
  const result = schema.safeParse(textTo(schema, text));
  if (result.success) return result.data;
  throw new InvalidArgumentError(result.error.issues[0].message.replace(/^Invalid input: /, ''));
}

function textTo(schema: z.ZodType, text: string): unknown {
  if (schema instanceof z.ZodNumber) return strictNumber(text);
  if (schema instanceof z.ZodBoolean) return booleanOf(text);
  if (schema instanceof z.ZodArray) return [textTo(schema.element as z.ZodType, text)];
  if (schema instanceof z.ZodRecord || schema instanceof z.ZodObject) return jsonOf(text);
  if (schema instanceof z.ZodUnion) {
    const options = schema.options as z.ZodType[];
    const values = options.flatMap((option) => {
      // What is no JSON may still be one of the others.
      if (option instanceof z.ZodRecord && !text.trimStart().startsWith('{')) return [];
      return [textTo(option, text)];
    });
    return values.find((value) => schema.safeParse(value).success);
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

/** A list is given by repeating its flag: its items may have commas. */
function repeats(schema: z.ZodType): boolean {
  return schema instanceof z.ZodArray;
}

function valueName(schema: z.ZodType): string {
  if (schema instanceof z.ZodEnum) return schema.options.join('|');
  if (schema instanceof z.ZodNumber) return schema.isInt ? 'n' : 'x';
  if (schema instanceof z.ZodRecord || schema instanceof z.ZodObject) return 'json';
  if (schema instanceof z.ZodBoolean) return 'true|false';
  if (schema instanceof z.ZodLiteral) return [...schema.values].join('|');
  if (schema instanceof z.ZodUnion) {
    return [...new Set((schema.options as z.ZodType[]).filter((o) => !repeats(o)).map(valueName))].join('|');
  }
  return 'text';
}

function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodOptional
    ? unwrapped(schema.unwrap() as z.ZodType)
    : schema;
}

/** optional() and default() leave a description where it was. */
function descriptionOf(schema: z.ZodType): string {
  if (schema.description !== undefined) return schema.description;
  const wrapped = schema instanceof z.ZodDefault || schema instanceof z.ZodOptional;
  return wrapped ? descriptionOf(schema.unwrap() as z.ZodType) : '';
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
  return ` (default: ${Array.isArray(value) ? value.join(',') : String(value)})`;
}

/** Options as they would be typed: flagsOf's inverse. */
export function toFlags(shape: z.ZodRawShape, given: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(given).flatMap(([name, value]) => {
    if (value === undefined) return [];
    const flag = `--${kebabCase(name)}`;
    if (unwrapped(shape[name] as z.ZodType) instanceof z.ZodBoolean)
      return [value ? flag : `--no-${flag.slice(2)}`];
    if (repeats(unwrapped(shape[name] as z.ZodType)))
      return (value as unknown[]).flatMap((item) => [flag, shellWord(String(item))]);
    if (Array.isArray(value)) return [flag, shellWord(value.join(','))];
    return [flag, shellWord(typeof value === 'object' ? JSON.stringify(value) : String(value))];
  });
}

/** Text as a POSIX shell takes it for one word. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
