import { sameShape } from '../base/dims.js';
import { frozenHeads } from './frozenHead.js';
import {
  addmm,
  cast,
  gather,
  gatherInt8,
  type Int8Attrs,
  matmul,
  matmulHalf,
  matmulInt8,
  matmulQuantized,
  mul,
  opOf,
  type QuantAttrs,
  rowSquares,
  scalar,
  sub,
  transpose,
} from './ops/index.js';
import { makeNode, type Node, reachable, type Tensor } from './tensor.js';

/**
 * Rewrites a differentiated graph to a cheaper equal one:
 * - equal nodes become one (constants, the tables' shapes, a negated sine);
 * - (w ∘ (P - onehot))·E, the loss's gradient through the LM head, becomes w ∘ (P·E - E[target]): the
 *   rows of E are looked up instead of copying the tokens × vocabulary array to change one element a row;
 * - the loss behind a frozen LM head, and that gradient, become one node that computes them some rows at a time;
 * - products with a quantized matrix work on its codes, and the squares of its rows are looked up; a frozen float32
 *   matrix's are summed without a matrix of them;
 * - a matrix in half precision is cast for each product again, and of an embedding only the rows that are looked up;
 * - products with a matrix in 8 bits a row are of whole numbers, and only its rows that are looked up are made float32;
 * - products with a thin matrix (LoRA's B, its gradient) are turned so that the long side is innermost;
 * - x + A·B of matrices becomes one addmm (ONNX Gemm): a node and a buffer less for every LoRA branch and
 *   residual.
 * Order of nodes follows the order in which they were first built, so activations die early.
 */
export function rewrite(roots: readonly Tensor[]): Tensor[] {
  const uses = countUses(roots);
  const heads = frozenHeads(roots);
  const done = new Map<Tensor, Tensor>();
  const known = new Map<string, readonly Tensor[]>();
  const ids = new Map<Tensor, number>();
  const idOf = (t: Tensor): number => {
    const id = ids.get(t) ?? ids.size;
    ids.set(t, id);
    return id;
  };

  for (const node of reachable(roots)) {
    const head = heads.get(node);
    if (head) {
      head(done).forEach((t, i) => {
        done.set(node.outputs[i], t);
      });
      continue;
    }
    const inputs = node.inputs.map((t) => done.get(t)!);
    const key = keyOf(node, inputs.map(idOf));
    let outputs = key === undefined ? undefined : known.get(key);
    if (!outputs) {
      const plain = untransposed(node, inputs);
      const [from, given] = plain ? [plain.node, plain.node.inputs] : [node, inputs];
      const replaced =
        headGradient(from, given) ??
        storedProduct(from, given) ??
        storedRows(from, given) ??
        frozenSquares(from, given) ??
        thinProduct(from, given) ??
        sumOfProduct(from, given, uses) ??
        plain;
      outputs = replaced ? [replaced] : makeNode(node.op, inputs, node.attrs, node.outputs);
      if (key !== undefined) known.set(key, outputs);
    }
    node.outputs.forEach((t, i) => {
      done.set(t, outputs[i]);
    });
  }
  return roots.map((t) => done.get(t)!);
}

function countUses(roots: readonly Tensor[]): Map<Tensor, number> {
  const uses = new Map<Tensor, number>();
  for (const t of [...roots, ...reachable(roots).flatMap((n) => n.inputs)])
    uses.set(t, (uses.get(t) ?? 0) + 1);
  return uses;
}

/** What makes two nodes equal; undefined for leaves with large attributes that are unique anyway. */
function keyOf(node: Node, inputs: number[]): string | undefined {
  if (node.op === 'input' || node.op === 'weight')
    return `${node.op} ${(node.attrs as { name: string }).name}`;
  if (node.op === 'constant') {
    const { value } = node.attrs as {
      value: { dtype: string; dims: readonly number[]; data: ArrayLike<unknown> };
    };
    return value.data.length > 16
      ? undefined
      : `constant ${value.dtype} ${value.dims} ${Array.from(value.data)}`;
  }
  return `${node.op} ${inputs} ${JSON.stringify(node.attrs)}`;
}

/** A product with a frozen matrix that lies the other way round in its file: with that itself, which costs no copy. */
function untransposed(node: Node, [a, b]: readonly Tensor[]): Tensor | undefined {
  if (node.op !== 'matmul' || (!isTurned(a) && !isTurned(b))) return undefined;
  const { transA, transB, alpha } = node.attrs as { transA: boolean; transB: boolean; alpha: number };
  return matmul(isTurned(a) ? a.node.inputs[0] : a, isTurned(b) ? b.node.inputs[0] : b, {
    transA: transA !== isTurned(a),
    transB: transB !== isTurned(b),
    alpha,
  });
}

function isTurned({ node: { op, inputs }, rank }: Tensor): boolean {
  if (op !== 'transpose' || rank !== 2) return false;
  return inputs[0].node.op === 'weight' || inputs[0].node.op === 'cast';
}

function headGradient(node: Node, [g, embedding]: readonly Tensor[]): Tensor | undefined {
  if (node.op !== 'matmul' || g.node.op !== 'mul' || embedding.rank !== 2) return undefined;
  const { transA, transB, alpha } = node.attrs as { transA: boolean; transB: boolean; alpha: number };
  const [difference, rowWeight] = g.node.inputs;
  if (
    transA ||
    transB ||
    alpha !== 1 ||
    difference.node.op !== 'scatterAddScalar' ||
    rowWeight.shape[1] !== 1
  )
    return undefined;
  const [p, targets] = difference.node.inputs;
  if ((difference.node.attrs as { value: number }).value !== -1) return undefined;
  return mul(sub(matmul(p, embedding), gather(embedding, targets)), rowWeight);
}

/** op(A)·op(B) where one of them is dequantized or cast: x·Wᵀ or x·W, and W·B as (Bᵀ·Wᵀ)ᵀ. */
function storedProduct(node: Node, [a, b]: readonly Tensor[]): Tensor | undefined {
  if (node.op !== 'matmul' || a.rank !== 2 || b.rank !== 2) return undefined;
  const { transA, transB, alpha } = node.attrs as { transA: boolean; transB: boolean; alpha: number };
  const scaled = (y: Tensor) => (alpha === 1 ? y : mul(y, scalar(alpha)));
  const product = (x: Tensor, w: Tensor, transposed: boolean) =>
    w.node.op === 'cast'
      ? matmulHalf(x, w.node.inputs[0], transposed)
      : matmulQuantized(x, w.node.inputs, { ...(w.node.attrs as QuantAttrs), transB: transposed });
  if (b.node.op === 'dequantizeRows' && transB)
    return scaled(matmulInt8(transA ? swapLast(a) : a, b.node.inputs, b.node.attrs as Int8Attrs));
  if (isStored(b)) return scaled(product(transA ? swapLast(a) : a, b, transB));
  if (!isStored(a)) return undefined;
  return swapLast(scaled(product(transB ? b : swapLast(b), a, !transA)));
}

function isStored({ node }: Tensor): boolean {
  return node.op === 'dequantize' || isCastPerUse(node);
}

function isCastPerUse({ op, attrs }: Node): boolean {
  return op === 'cast' && (attrs as { perUse: boolean }).perUse;
}

/** Rows of a matrix in half precision, or in 8 bits. */
function storedRows(node: Node, [x, index]: readonly Tensor[]): Tensor | undefined {
  if (node.op !== 'gather') return undefined;
  if (isCastPerUse(x.node)) return cast(gather(x.node.inputs[0], index), false);
  const isInt8 = x.node.op === 'dequantizeRows' && !(x.node.attrs as Int8Attrs).turned;
  return isInt8 ? gatherInt8(x.node.inputs, index) : undefined;
}

/** ‖row‖² of a frozen matrix; of a quantized one it is known since then. */
function frozenSquares(node: Node, [squares]: readonly Tensor[]): Tensor | undefined {
  if (node.op !== 'sum' || squares.node.op !== 'mul') return undefined;
  const { axes, keepDims } = node.attrs as { axes: readonly number[]; keepDims: boolean };
  const [w, other] = squares.node.inputs;
  if (w !== other || String(axes) !== '1' || keepDims) return undefined;
  if (w.node.op === 'weight') return rowSquares(w);
  if (w.node.op === 'cast') return rowSquares(w.node.inputs[0]);
  return w.node.op === 'dequantize' ? w.node.inputs[2] : undefined;
}

/** Up to this size a side of a matrix is thin. */
const THIN = 64;

/**
 * u·Bᵀ with few columns in u, and Gᵀ·u with few columns in u: the engine's kernels want the long side of the thin
 * matrix innermost, so B is transposed first, and (uᵀ·G)ᵀ computed instead. Twice as fast at r = 8; the transposed
 * matrices are small.
 */
function thinProduct(node: Node, [a, b]: readonly Tensor[]): Tensor | undefined {
  if (node.op !== 'matmul' || a.rank !== b.rank) return undefined;
  const { transA, transB, alpha } = node.attrs as { transA: boolean; transB: boolean; alpha: number };
  const [rows, columns] = b.shape.slice(-2);
  const thin = typeof columns === 'number' && columns <= THIN;
  if (!thin || transA === transB) return undefined;
  if (transA) return swapLast(matmul(b, a, { transA: true, alpha }));
  return a.rank === 2 && typeof rows === 'number' ? matmul(a, swapLast(b), { alpha }) : undefined;
}

function swapLast(t: Tensor): Tensor {
  const axes = t.shape.map((_, i) => i);
  return transpose(t, [...axes.slice(0, -2), t.rank - 1, t.rank - 2]);
}

function sumOfProduct(node: Node, inputs: readonly Tensor[], uses: Map<Tensor, number>): Tensor | undefined {
  if (node.op !== 'add') return undefined;
  // The later operand is the cheap branch (LoRA's, or a later gradient): prefer to accumulate onto the first.
  for (const i of [1, 0]) {
    const product = inputs[i];
    const other = inputs[1 - i];
    if (product.node.op !== 'matmul' || uses.get(node.inputs[i]) !== 1) continue;
    const [a, b] = product.node.inputs;
    if (a.rank !== 2 || b.rank !== 2 || !sameShape(other.shape, product.shape)) continue;
    return addmm(other, a, b, product.node.attrs as Parameters<typeof addmm>[3]);
  }
  return undefined;
}

/** Re-infers every node's types: a broken rewrite or rule fails here, not inside the engine. */
export function validate(roots: readonly Tensor[]): void {
  for (const node of reachable(roots)) {
    const types = opOf(node.op).infer(node.inputs, node.attrs);
    for (const [i, t] of node.outputs.entries()) {
      if (types[i].dtype !== t.dtype || !sameShape(types[i].shape, t.shape)) {
        throw new Error(`${node.op}: output ${i} says [${t.shape}], its inputs give [${types[i].shape}]`);
      }
    }
  }
}
