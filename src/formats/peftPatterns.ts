/** Patterns of PEFT's configurations, each matched as PEFT 0.21.2 matches it: they are Python's, written into larger ones. */
import { PythonPattern } from './pythonRegex/index.js';

/** Whether a module's name matches. */
export type NameTest = (name: string) => boolean;

/** target_modules and exclude_modules as a text: the whole name. `what` names the option in errors, as in those below. */
export function wholeName(what: string, pattern: string): NameTest {
  const whole = new PythonPattern(what, pattern);
  return (name) => whole.fullmatch(name);
}

/** A key of rank_pattern or alpha_pattern: the end of a name, behind a dot (get_pattern_key). */
export function nameEnd(what: string, pattern: string): NameTest {
  return matching(what, `(.*\\.)?(${pattern})$`, pattern);
}

/** What patterns by nameEnd give a module: the first that matches (as PEFT's get_pattern_key); undefined where none does. */
export function patternValue(
  what: string,
  patterns: Readonly<Record<string, number>>,
  name: string,
): number | undefined {
  return Object.entries(patterns).find(([pattern]) => nameEnd(what, pattern)(name))?.[1];
}

/** One of modules_to_save, where it takes modules from the targets: a module or what it is a part of. */
export function savedModule(what: string, pattern: string): NameTest {
  return matching(what, `(^|.*\\.)${pattern}($|\\..*)`, pattern);
}

/** The number of a module's layer; undefined where it is in none. Without `patterns` layers may be called anything. */
export function layerNumber(
  what: string,
  patterns: readonly string[] = [],
): (name: string) => number | undefined {
  const all = patterns.map((p) => new PythonPattern(what, `(?:^|.*?\\.)${p}\\.(?P<idx>\\d+)\\.`, p));
  if (all.length === 0) all.push(new PythonPattern(what, '.*?\\.[^.]*\\.(?P<idx>\\d+)\\.'));
  return (name) => {
    const found = all.find((pattern) => pattern.match(name));
    const number = found?.groupOf(name, 'idx');
    return number === undefined ? undefined : Number(number);
  };
}

/** Many layers ask for few patterns, again and again. */
const known = new Map<string, NameTest>();
const MAX_KNOWN = 4096;

function matching(what: string, pattern: string, shown: string): NameTest {
  const key = `${what} ${pattern}`;
  const made = known.get(key);
  if (made) return made;
  const whole = new PythonPattern(what, pattern, shown);
  const results = new Map<string, boolean>();
  const test: NameTest = (name) => {
    const found = results.get(name) ?? whole.match(name) !== undefined;
    if (results.size < MAX_KNOWN) results.set(name, found);
    return found;
  };
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(key, test);
  return test;
}
