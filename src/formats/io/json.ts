/** JSON files from outside: bounded, checked against a zod schema, refused in one sentence. */
import * as z from 'zod';
import { messageOf, nearest, UserError } from '../../base/errors.js';

/** Parses UTF-8 JSON. Throws UserError that begins with `place` (a file's name) and says where it breaks. */
export function parseJson(place: string, bytes: Uint8Array): unknown {
  return parseJsonText(place, decodeUtf8(place, bytes));
}

/** Strict UTF-8; a byte order mark is dropped. */
export function decodeUtf8(place: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new UserError(`${place} is not UTF-8 text`);
  }
}

/** Far deeper than any file that is read here; what recurses over values is safe within. */
const MAX_DEPTH = 200;

/** As parseJson, for text. */
export function parseJsonText(place: string, text: string, maxDepth = MAX_DEPTH): unknown {
  if (depthOf(text, maxDepth) > maxDepth) {
    throw new UserError(`${place} nests objects and arrays deeper than ${maxDepth}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${place} is not valid JSON: ${whereItBreaks(text, messageOf(error))}`);
  }
}

/** Throws UserError where a value that a program gives nests deeper than a JSON file may; one in a circle does. */
export function checkDepth(place: string, value: unknown, maxDepth = MAX_DEPTH): void {
  const open: [value: object, depth: number][] = [];
  const visit = (item: unknown, depth: number) => {
    if (typeof item !== 'object' || item === null || ArrayBuffer.isView(item)) return;
    if (depth > maxDepth) throw new UserError(`${place} nests objects and arrays deeper than ${maxDepth}`);
    open.push([item, depth]);
  };
  visit(value, 1);
  for (let top = open.pop(); top; top = open.pop()) {
    for (const item of Object.values(top[0])) visit(item, top[1] + 1);
  }
}

/** How deep brackets nest in a JSON text; not looked at further once it is more than `limit`. */
function depthOf(text: string, limit: number): number {
  let [depth, deepest] = [0, 0];
  for (let i = 0; i < text.length && deepest <= limit; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      for (i++; i < text.length && text.charCodeAt(i) !== QUOTE; i++)
        if (text.charCodeAt(i) === BACKSLASH) i++;
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) depth--;
  }
  return deepest;
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];

/** V8 tells the position of some errors, the token of others, and of a cut file neither. */
function whereItBreaks(text: string, message: string): string {
  const position = /at position (\d+)/.exec(message)?.[1];
  if (position !== undefined) {
    const before = text.slice(0, Number(position)).split('\n');
    return `line ${before.length}, column ${before[before.length - 1].length + 1}`;
  }
  const token = /^Unexpected token '(.)'/su.exec(message)?.[1];
  return token === undefined ? 'it ends too early' : `unexpected ${JSON.stringify(token)}`;
}

/** Checks a parsed value. Throws UserError that begins with `place` and names the key. */
export function checkJson<T>(place: string, value: unknown, schema: z.ZodType<T>): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { issues } = result.error;
  // A key that is misspelled tells more than that it is missing.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
  const key = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const unknown = [key, issue.keys[0]].filter((part) => part !== '').join('.');
    const guess = nearest(issue.keys[0], knownKeys(schema, issue.path));
    throw new UserError(
      `${place}: unknown key "${unknown}"${guess === undefined ? '' : `, did you mean "${guess}"?`}`,
    );
  }
  const what = issueText(issue);
  throw new UserError(`${place}: ${key === '' ? what : `key "${key}": ${what}`}`);
}

/** What a schema's issue says, in words; a message that the schema brings stays. */
export function issueText(issue: z.core.$ZodIssue): string {
  const { message } = issue;
  if (issue.code === 'too_small' && message.startsWith('Too small')) {
    if (issue.origin === 'string' && issue.minimum === 1) return 'expected a text that is not empty';
    if (isNumeric(issue.origin))
      return `expected a number ${issue.inclusive ? 'of at least' : 'above'} ${issue.minimum}`;
  }
  if (issue.code === 'too_big' && message.startsWith('Too big') && isNumeric(issue.origin)) {
    return `expected a number ${issue.inclusive ? 'of at most' : 'below'} ${issue.maximum}`;
  }
  if (issue.code === 'invalid_value' && message.startsWith('Invalid option')) {
    return `expected one of ${issue.values.map(String).join(', ')}`;
  }
  if (message === 'Invalid input: expected int, received number') return 'expected a whole number';
  return message.replace(/^Invalid input: /, '');
}

function isNumeric(origin: string): boolean {
  return origin === 'number' || origin === 'int';
}

/** The keys that a schema's object at `path` declares, as far as plain objects and lists lead there. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at: unknown = schema;
  for (const step of path) {
    if (at instanceof z.ZodArray) at = unwrap(at.element);
    else if (at instanceof z.ZodObject) at = unwrap(at.shape[String(step)]);
    else return [];
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault
    ? unwrap(schema.unwrap())
    : schema;
}

/**
 * The first key that appears twice in one object of a valid JSON text, where JSON.parse would silently
 * take the last; undefined when there is none.
 */
export function duplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '{') open.push(new Set());
    else if (c === '[') open.push(undefined);
    else if (c === '}' || c === ']') open.pop();
    else if (c === '"') {
      const start = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
      const keys = open[open.length - 1];
      afterString.lastIndex = i + 1;
      if (keys === undefined || !afterString.test(text)) continue;
      const key: string = JSON.parse(text.slice(start, i + 1));
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

/** A string that a colon follows is a key. */
const afterString = /\s*:/y;
