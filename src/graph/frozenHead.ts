import { headLoss, mul } from './ops/index.js';
import { type Node, reachable, type Tensor } from './tensor.js';

/** What takes the place of a node's outputs, given what took the place of those before. */
export type Replacement = (done: ReadonlyMap<Tensor, Tensor>) => readonly Tensor[];

/**
 * Finds losses behind a frozen LM head whose logits nobody asks for, and the gradient that goes back through it,
 *
 *     logits = hidden·Wᵀ,   (losses, p) = crossEntropy(logits, targets),   ((p − onehot(targets)) ∘ w)·W
 *
 * and puts one headLoss in their place, which computes the losses and (p − onehot(targets))·W some rows at a time. What
 * lies between goes: it is replaced by nothing.
 */
export function frozenHeads(roots: readonly Tensor[]): Map<Node, Replacement> {
  const replacements = new Map<Node, Replacement>();
  const nodes = reachable(roots);
  const uses = new Map<Tensor, Node[]>(roots.map((t) => [t, []]));
  for (const node of nodes) for (const t of node.inputs) uses.set(t, [...(uses.get(t) ?? []), node]);
  for (const loss of nodes) {
    if (loss.op !== 'crossEntropy') continue;
    const head = headOf(loss, (t) => uses.get(t) ?? [], new Set(roots));
    if (!head) continue;
    const { between, gradient } = head;
    const [hidden, read] = loss.inputs[0].node.inputs;
    const matrix = read.node.op === 'cast' ? read.node.inputs[0] : read;
    const targets = loss.inputs[1];
    for (const node of between) replacements.set(node, () => []);
    let ofRows: Tensor;
    replacements.set(loss, (done) => {
      const [h, w, t] = [hidden, matrix, targets].map((x) => done.get(x)!);
      const [losses, rows] = headLoss(h, w, t, gradient !== undefined);
      ofRows = rows;
      return [losses];
    });
    if (!gradient) continue;
    const rowWeight = gradient.inputs[0].node.inputs[1];
    replacements.set(gradient, (done) => [mul(ofRows, done.get(rowWeight)!)]);
  }
  return replacements;
}

interface Head {
  /** Nodes that only serve the others. */
  between: Node[];
  /** The product through which the gradient leaves the head; undefined where nothing is differentiated. */
  gradient?: Node;
}

const FROZEN: ReadonlySet<string> = new Set(['weight', 'cast']);

function headOf(
  loss: Node,
  usersOf: (t: Tensor) => readonly Node[],
  wanted: ReadonlySet<Tensor>,
): Head | undefined {
  const [logits, targets] = loss.inputs;
  const p = loss.outputs[1];
  const matrix = logits.node.inputs[1];
  /** The one node that uses a value that nobody else asks for. */
  const onlyUser = (t: Tensor): Node | undefined =>
    wanted.has(t) || usersOf(t).length !== 1 ? undefined : usersOf(t)[0];
  if (!isProduct(logits.node, true) || !FROZEN.has(matrix.node.op) || onlyUser(logits) !== loss) {
    return undefined;
  }
  const between = [logits.node];
  if (usersOf(p).length === 0 && !wanted.has(p)) return { between };

  const difference = onlyUser(p);
  if (difference?.op !== 'scatterAddScalar' || difference.inputs[1] !== targets) return undefined;
  if ((difference.attrs as { value: number }).value !== -1) return undefined;
  const weighted = onlyUser(difference.outputs[0]);
  if (weighted?.op !== 'mul' || weighted.inputs[0].node !== difference || weighted.inputs[1].shape[1] !== 1) {
    return undefined;
  }
  const gradient = onlyUser(weighted.outputs[0]);
  if (!gradient || !isProduct(gradient, false) || gradient.inputs[1] !== matrix) return undefined;
  return { between: [...between, difference, weighted], gradient };
}

/** x·W, or x·Wᵀ, of matrices. */
function isProduct(node: Node, transposed: boolean): boolean {
  if (node.op !== 'matmul' || node.inputs.some((t) => t.rank !== 2)) return false;
  const { transA, transB, alpha } = node.attrs as { transA: boolean; transB: boolean; alpha: number };
  return !transA && transB === transposed && alpha === 1;
}
