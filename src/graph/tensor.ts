import type { Shape } from '../base/dims.js';
import type { DType, WeightDType } from '../base/tensor.js';

/** Element type and (possibly symbolic) shape of a value in a graph. Precisions other than float32 only until they are cast. */
export interface TensorType {
  readonly dtype: DType | WeightDType;
  readonly shape: Shape;
}

/** One operation in a graph: an entry of the op table applied to inputs. */
export interface Node {
  readonly id: number;
  readonly op: string;
  readonly inputs: readonly Tensor[];
  /** Checked by the op's own builder; typed there. */
  readonly attrs: unknown;
  readonly outputs: readonly Tensor[];
}

/** A value in a graph: output `index` of `node`. Immutable; building more graph never changes it. */
export class Tensor implements TensorType {
  constructor(
    readonly node: Node,
    readonly index: number,
    readonly dtype: DType | WeightDType,
    readonly shape: Shape,
  ) {}

  get rank(): number {
    return this.shape.length;
  }
}

let lastId = 0;

/** Makes a node and its outputs. Only op builders call this: they know the types. */
export function makeNode(
  op: string,
  inputs: readonly Tensor[],
  attrs: unknown,
  types: readonly TensorType[],
): readonly Tensor[] {
  const outputs: Tensor[] = [];
  const node: Node = { id: ++lastId, op, inputs, attrs, outputs };
  for (const [i, type] of types.entries()) outputs.push(new Tensor(node, i, type.dtype, type.shape));
  return outputs;
}

/** All nodes that `roots` need, in the order in which they were built (inputs first). */
export function reachable(roots: Iterable<Tensor>): Node[] {
  const seen = new Set<Node>();
  const stack = [...roots].map((t) => t.node);
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) stack.push(input.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}
