/**
 * Symbolic sizes. A dimension is a number, or a product of a number and named sizes ("3*batch*seq"), or
 * such a name that stands for a sum ("(past+seq)"). Products are kept in one canonical spelling, so equal
 * sizes compare equal as strings.
 */
export type Dim = number | string;
export type Shape = readonly Dim[];

function split(d: Dim): { factor: number; names: string[] } {
  if (typeof d === 'number') return { factor: d, names: [] };
  // A sum is a name, whatever products it is of.
  const parts = d.match(/\([^()]*(?:\([^()]*\)[^()]*)*\)|[^*]+/g)!;
  const first = Number(parts[0]);
  return Number.isNaN(first) ? { factor: 1, names: parts } : { factor: first, names: parts.slice(1) };
}

function join(factor: number, names: string[]): Dim {
  if (names.length === 0 || factor === 0) return factor;
  const sorted = [...names].sort();
  return (factor === 1 ? sorted : [String(factor), ...sorted]).join('*');
}

export function mulDims(...dims: Dim[]): Dim {
  const parts = dims.map(split);
  return join(
    parts.reduce((a, p) => a * p.factor, 1),
    parts.flatMap((p) => p.names),
  );
}

/** a / b, which must be exact. */
export function divDims(a: Dim, b: Dim): Dim {
  const x = split(a);
  const y = split(b);
  const names = [...x.names];
  for (const name of y.names) {
    const at = names.indexOf(name);
    if (at < 0) throw new Error(`${a} is not divisible by ${b}`);
    names.splice(at, 1);
  }
  if (x.factor % y.factor !== 0) throw new Error(`${a} is not divisible by ${b}`);
  return join(x.factor / y.factor, names);
}

/** a + b; symbolic sums get a name of their own. */
export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  if (a === 0) return b;
  if (b === 0) return a;
  return `(${a}+${b})`;
}

/** What a name that stands for a sum is the sum of; undefined for any other. */
export function termsOf(name: string): [Dim, Dim] | undefined {
  if (!name.startsWith('(')) return undefined;
  let depth = 0;
  for (let at = 1; at < name.length - 1; at++) {
    if (name[at] === '(') depth++;
    else if (name[at] === ')') depth--;
    else if (name[at] === '+' && depth === 0)
      return [dimOf(name.slice(1, at)), dimOf(name.slice(at + 1, -1))];
  }
  return undefined;
}

function dimOf(text: string): Dim {
  return Number.isNaN(Number(text)) ? text : Number(text);
}

/** The sizes that a dimension is a product of: its number and its names. */
export function factorsOf(d: Dim): { factor: number; names: string[] } {
  return split(d);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** The shape of a broadcast of both, as NumPy does it. Throws where they do not fit. */
export function broadcast(a: Shape, b: Shape): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw new Error(`shapes [${a}] and [${b}] do not broadcast`);
  });
}
