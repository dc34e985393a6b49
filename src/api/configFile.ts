import { isMap, isScalar, LineCounter, type Pair, parseDocument, type YAMLMap } from 'yaml';
import type * as z from 'zod';
import { messageOf, nearest, UserError } from '../base/errors.js';
import { camelCase, kebabCase, snakeCase } from '../base/names.js';
import { decodeUtf8 } from '../formats/io/json.js';
import { readFully, withFile } from '../formats/io/node.js';
import { optionOfForeign, reasonAgainstForeign } from './foreignKeys.js';

/** A larger file is no configuration. */
const MAX_BYTES = 1 << 20;

/**
 * Reads options from a YAML or JSON file (JSON is YAML). Keys may be spelled in camelCase, snake_case or
 * kebab-case; the result has them in camelCase, as `schema` does. A key without a value counts as not given.
 * @throws UserError that names the file, the line and the key; one for all unknown keys, with the nearest known ones, or
 * what a key of another tool is here.
 */
export async function readConfigFile(path: string, schema: z.ZodObject): Promise<Record<string, unknown>> {
  return parseConfig(path, await readConfigText(path), schema);
}

/** The text of a config file. Throws UserError where it cannot be read or is too large for one. */
export function readConfigText(path: string): Promise<string> {
  return withFile(path, async (file, size) => {
    if (size > MAX_BYTES) throw new UserError(`${path} has ${size} bytes, more than a config file may have`);
    const bytes = new Uint8Array(size);
    await readFully(file, path, bytes, 0);
    return decodeUtf8(path, bytes);
  });
}

/** As readConfigFile, for text; `path` names it in errors. */
export function parseConfig(path: string, text: string, schema: z.ZodObject): Record<string, unknown> {
  return new ConfigText(path, text).options(schema);
}

/** A key of a config file, and what stands behind it. */
export interface ConfigEntry {
  /** As it is spelled, and in camelCase. */
  key: string;
  name: string;
  /** File and line. */
  place: string;
  /** null where nothing stands there. */
  value: unknown;
  /** What stands there, where that is a map. */
  map?: YAMLMap;
}

/** A config file's text as YAML, whose maps are checked one by one. */
export class ConfigText {
  private readonly lines = new LineCounter();
  private readonly document: ReturnType<typeof parseDocument>;
  private readonly root: YAMLMap | undefined;

  /** Throws UserError where `text` is no YAML, or something else than a map. */
  constructor(
    readonly path: string,
    text: string,
  ) {
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: false });
    const [broken] = this.document.errors;
    if (broken) throw new UserError(`${this.placeAt(broken.pos[0])}: ${broken.message}`);
    const root = this.document.contents;
    if (root === null || (isScalar(root) && root.value === null)) return;
    if (!isMap(root)) throw new UserError(`${path}: expected options as "key: value"`);
    this.root = root as YAMLMap;
  }

  /** The options in a map, or in the whole file. Throws as readConfigFile. */
  options(schema: z.ZodObject, map = this.root): Record<string, unknown> {
    if (!map) return {};
    refuseUnknown(this.path, map, this.lines, schema);
    const values: Record<string, unknown> = {};
    for (const { name, key, place, value } of this.entries(map)) {
      if (value === null) continue;
      const checked = (schema.shape[name] as z.ZodType).safeParse(value);
      if (!checked.success) {
        const [issue] = checked.error.issues;
        const full = [key, ...issue.path.map(String)].join('.');
        throw new UserError(`${place}: key "${full}": ${issue.message.replace(/^Invalid input: /, '')}`);
      }
      values[name] = checked.data;
    }
    return values;
  }

  /** The keys of a map, or of the whole file. Throws UserError where one is there twice, in whatever spelling. */
  entries(map = this.root): ConfigEntry[] {
    const firstPlace = new Map<string, string>();
    return (map?.items ?? []).map((pair) => {
      const { key, offset } = keyOf(pair, this.path);
      const place = this.placeAt(offset);
      const name = camelCase(key);
      const before = firstPlace.get(name);
      if (before) throw new UserError(`${place}: key "${key}" is given already as ${before}`);
      firstPlace.set(name, `"${key}" in line ${this.lines.linePos(offset).line}`);
      const value = jsValue(pair, place, this.document);
      return { key, name, place, value, ...(isMap(pair.value) && { map: pair.value as YAMLMap }) };
    });
  }

  private placeAt(offset: number): string {
    return `${this.path} line ${this.lines.linePos(offset).line}`;
  }
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

/** Throws UserError that names all keys that `schema` does not know, and what each may have meant. */
function refuseUnknown(path: string, root: YAMLMap, lines: LineCounter, schema: z.ZodObject): void {
  const unknown = root.items
    .map((pair) => keyOf(pair, path))
    .filter(({ key }) => !Object.hasOwn(schema.shape, camelCase(key)))
    .map(({ key, offset }) => ({ key, line: lines.linePos(offset).line }));
  if (unknown.length === 0) return;
  if (unknown.length === 1) {
    const [{ key, line }] = unknown;
    const { hint, reason } = meantBy(key, schema);
    const said = hint ? `, ${hint}` : reason ? `: ${reason}` : '';
    throw new UserError(`${path} line ${line}: unknown key "${key}"${said}`);
  }
  // Those of one reason stand together, behind those that an option stands for.
  const groups = new Map<string, string[]>();
  const said: string[] = [];
  for (const { key, line } of unknown) {
    const { hint, reason } = meantBy(key, schema);
    const named = `"${key}" (line ${line})`;
    if (hint) said.push(`${named}, ${hint}`);
    else if (reason === undefined) said.push(named);
    else groups.set(reason, [...(groups.get(reason) ?? []), named]);
  }
  for (const [reason, keys] of groups) said.push(`${keys.join(', ')}: ${reason}`);
  throw new UserError(`${path} has ${unknown.length} unknown keys: ${said.join('; ')}`);
}

/** What an unknown key stands for, or why nothing does. */
function meantBy(key: string, schema: z.ZodObject): { hint?: string; reason?: string } {
  const spell = spellingOf(key);
  const name = camelCase(key);
  const option = optionOfForeign(name);
  if (option && Object.hasOwn(schema.shape, option.name)) {
    const value = option.value === undefined ? '' : `: ${option.value}`;
    return { hint: `here "${spell(option.name)}${value}"` };
  }
  const reason = reasonAgainstForeign(name);
  if (reason !== undefined) return { reason };
  const guess = nearest(name, Object.keys(schema.shape));
  return guess === undefined ? {} : { hint: `did you mean "${spell(guess)}"?` };
}

/** Names are suggested as the key is spelled. */
function spellingOf(key: string): (name: string) => string {
  if (key.includes('-')) return kebabCase;
  return /[A-Z]/.test(key) ? (name) => name : snakeCase;
}
