import { isMap, isScalar, LineCounter, type Pair, parseDocument, type YAMLMap } from 'yaml';
import type * as z from 'zod';
import { messageOf, nearest, UserError } from '../base/errors.js';
import { camelCase, kebabCase, snakeCase } from '../base/names.js';
import { decodeUtf8 } from '../formats/io/json.js';
import { readFully, withFile } from '../formats/io/node.js';

/** A larger file is no configuration. */
const MAX_BYTES = 1 << 20;

/**
 * Reads options from a YAML or JSON file (JSON is YAML). Keys may be spelled in camelCase, snake_case or
 * kebab-case; the result has them in camelCase, as `schema` does. A key without a value counts as not given.
 * @throws UserError that names the file, the line and the key, and for an unknown key the nearest known one.
 */
export async function readConfigFile(path: string, schema: z.ZodObject): Promise<Record<string, unknown>> {
  const text = await withFile(path, async (file, size) => {
    if (size > MAX_BYTES) throw new UserError(`${path} has ${size} bytes, more than a config file may have`);
    const bytes = new Uint8Array(size);
    await readFully(file, path, bytes, 0);
    return decodeUtf8(path, bytes);
  });
  return parseConfig(path, text, schema);
}

/** As readConfigFile, for text; `path` names it in errors. */
export function parseConfig(path: string, text: string, schema: z.ZodObject): Record<string, unknown> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineOf = (offset: number) => `${path} line ${lines.linePos(offset).line}`;
  const [broken] = document.errors;
  if (broken) throw new UserError(`${lineOf(broken.pos[0])}: ${broken.message}`);
  const root = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return {};
  if (!isMap(root)) throw new UserError(`${path}: expected options as "key: value"`);

  const values: Record<string, unknown> = {};
  const firstPlace = new Map<string, string>();
  for (const pair of (root as YAMLMap).items) {
    const { key, offset } = keyOf(pair, path);
    const place = lineOf(offset);
    const name = camelCase(key);
    if (!Object.hasOwn(schema.shape, name)) throw new UserError(`${place}: ${unknownKey(key, schema)}`);
    const before = firstPlace.get(name);
    if (before) throw new UserError(`${place}: key "${key}" is given already as ${before}`);
    firstPlace.set(name, `"${key}" in line ${lines.linePos(offset).line}`);
    const value = jsValue(pair, place, document);
    if (value === null) continue;
    const checked = (schema.shape[name] as z.ZodType).safeParse(value);
    if (!checked.success) {
      const [{ path: within, message }] = checked.error.issues;
      const full = [key, ...within.map(String)].join('.');
      throw new UserError(`${place}: key "${full}": ${message.replace(/^Invalid input: /, '')}`);
    }
    values[name] = checked.data;
  }
  return values;
}

function keyOf({ key }: Pair, path: string): { key: string; offset: number } {
  if (isScalar(key) && typeof key.value === 'string') return { key: key.value, offset: key.range?.[0] ?? 0 };
  throw new UserError(`${path}: a key is not text: ${String(key)}`);
}

function jsValue(pair: Pair, place: string, document: ReturnType<typeof parseDocument>): unknown {
  const { value } = pair;
  if (value === null || value === undefined) return null;
  try {
    return (value as { toJS(document: unknown): unknown }).toJS(document);
  } catch (error) {
    throw new UserError(`${place}: ${messageOf(error)}`);
  }
}

/** The suggestion is spelled as the key is. */
function unknownKey(key: string, schema: z.ZodObject): string {
  const spell = key.includes('_') ? snakeCase : key.includes('-') ? kebabCase : (name: string) => name;
  const guess = nearest(camelCase(key), Object.keys(schema.shape));
  return `unknown key "${key}"${guess ? `, did you mean "${spell(guess)}"?` : ''}`;
}
