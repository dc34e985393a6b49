/** What a compiled graph holds in memory while it runs, told from the graph alone. */
import { factorsOf, type Shape } from '../base/dims.js';
import { Arena, type Chunk } from './arena.js';
import { opOf } from './ops/index.js';
import type { Node, Tensor } from './tensor.js';

/** Values of the named sizes: how many rows, positions, targets. */
export type Sizes = Readonly<Record<string, number>>;

/** Bytes of an element. */
const BYTES: Readonly<Record<string, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  int64: 8,
  bool: 1,
  uint8: 1,
};

/** Ops whose result the engine writes over an operand that nobody needs any more. */
const IN_PLACE: ReadonlySet<string> = new Set([
  'add',
  'sub',
  'mul',
  'div',
  'neg',
  'exp',
  'log',
  'sqrt',
  'sigmoid',
  'tanh',
  'relu',
  'erf',
  'sign',
  'softmax',
]);
/** Ops whose result is its operand's memory. */
const ALIAS: ReadonlySet<string> = new Set(['reshape', 'after', 'detach']);
/** Leaves: they lie in files, or are fed. */
const LEAVES: ReadonlySet<string> = new Set(['input', 'weight', 'constant']);

/** Bytes of a value at given sizes. */
export function bytesOf({ dtype, shape }: { dtype: string; shape: Shape }, sizes: Sizes): number {
  return shape.reduce<number>((n, dim) => n * sizeAt(dim, sizes), BYTES[dtype]);
}

function sizeAt(dim: Shape[number], sizes: Sizes): number {
  if (typeof dim === 'number') return dim;
  if (sizes[dim] !== undefined) return sizes[dim];
  const sum = /^\((.*)\)$/.exec(dim)?.[1];
  if (sum !== undefined) return sum.split('+').reduce((n, part) => n + sizeAt(numeric(part), sizes), 0);
  const { factor, names } = factorsOf(dim);
  if (names.length === 1 && factor === 1) throw new Error(`no size is given for "${dim}"`);
  return names.reduce((n, name) => n * sizeAt(name, sizes), factor);
}

const numeric = (part: string) => (/^\d+$/.test(part) ? Number(part) : part);

/**
 * The nodes in the order in which the engine runs them: it walks back from the results, the last one that it was given
 * first, and from each node to the operand that was made last (ReverseDFSFrom in ONNX Runtime's graph.cc).
 */
export function runOrder(nodes: readonly Node[], roots: readonly Tensor[]): Node[] {
  const indexOf = new Map(nodes.map((node, i) => [node, i]));
  const done = new Set<Node>();
  const order: Node[] = [];
  const lastFirst = [...roots].sort((a, b) => b.node.id - a.node.id);
  const stack: [node: Node, leaving: boolean][] = lastFirst.map((t) => [t.node, false]);
  for (let top = stack.pop(); top; top = stack.pop()) {
    const [node, leaving] = top;
    if (leaving) {
      order.push(node);
      continue;
    }
    if (done.has(node)) continue;
    done.add(node);
    stack.push([node, true]);
    const before = [...new Set(node.inputs.map((t) => t.node))].filter((n) => !done.has(n));
    before.sort((a, b) => indexOf.get(a)! - indexOf.get(b)!);
    for (const n of before) stack.push([n, false]);
  }
  return order;
}

/** What a run takes, beside what is fed and what lies in files. */
export interface RunMemory {
  /** The most bytes of values at once. */
  values: number;
  /** Memory that the engine's arena has touched in the end, which it keeps: the above, and what lies idle between. */
  arena: number;
}

/** A buffer that one value after the other may be in. */
interface Buffer {
  bytes: number;
  uses: number;
  chunk: Chunk;
}

/**
 * Memory of the values while `order` runs, leaves aside, by running it without its arithmetic.
 */
export function memoryOf(order: readonly Node[], roots: readonly Tensor[], given: Sizes): RunMemory {
  const sizes = withLearned(order, given);
  const arena = new Arena();
  let values = 0;
  // A run begins in what the last one left of the arena, and finds other room there.
  for (let run = 0; run < RUNS; run++) values = runIn(arena, order, roots, sizes);
  return { values, arena: arena.touched };
}

/** Sizes with those that the engine learns on its way. */
function withLearned(order: readonly Node[], given: Sizes): Sizes {
  const sizes: Record<string, number> = { ...given };
  for (const { op, inputs, attrs } of order) {
    const learned = opOf(op).sizes?.(inputs, attrs, (dim) => sizeAt(dim, sizes)) ?? [];
    for (const [name, size] of learned) sizes[name] = size;
  }
  return sizes;
}

/** From then on the arena grows no more. */
const RUNS = 3;

/** One run. Returns the most bytes at once. */
function runIn(arena: Arena, order: readonly Node[], roots: readonly Tensor[], sizes: Sizes): number {
  const bufferOf = new Map<Tensor, Buffer>();
  const usesOf = new Map<Tensor, number>();
  for (const t of [...order.flatMap((n) => n.inputs), ...roots]) usesOf.set(t, (usesOf.get(t) ?? 0) + 1);
  let [live, values] = [0, 0];
  const allocate = (bytes: number, uses: number): Buffer => {
    live += bytes;
    return { bytes, uses, chunk: arena.allocate(bytes) };
  };
  const release = ({ bytes, chunk }: Buffer) => {
    live -= bytes;
    arena.release(chunk);
  };
  for (const node of order) {
    if (LEAVES.has(node.op)) continue;
    const unused: Buffer[] = [];
    for (const out of node.outputs) {
      const uses = usesOf.get(out) ?? 0;
      const bytes = bytesOf(out, sizes);
      const taken = takenOver(node, bytes, bufferOf);
      if (taken) taken.uses += uses;
      const buffer = taken ?? allocate(bytes, uses);
      if (uses === 0 && !taken) unused.push(buffer);
      else bufferOf.set(out, buffer);
    }
    const scratch = opOf(node.op).scratch?.(node.inputs, node.attrs, (dim) => sizeAt(dim, sizes)) ?? [];
    const extra = scratch.map((bytes) => allocate(bytes, 0));
    values = Math.max(values, live);
    for (const buffer of [...extra, ...unused]) release(buffer);
    for (const t of node.inputs) {
      const buffer = bufferOf.get(t);
      if (buffer && --buffer.uses === 0) release(buffer);
    }
  }
  for (const buffer of new Set(roots.flatMap((t) => bufferOf.get(t) ?? []))) release(buffer);
  return values;
}

/** The operand's buffer that a node's result is put into. */
function takenOver(
  { op, inputs }: Node,
  bytes: number,
  buffers: ReadonlyMap<Tensor, Buffer>,
): Buffer | undefined {
  if (ALIAS.has(op)) return buffers.get(inputs[0]);
  if (!IN_PLACE.has(op)) return undefined;
  return inputs.map((t) => buffers.get(t)).find((b) => b !== undefined && b.uses === 1 && b.bytes === bytes);
}
