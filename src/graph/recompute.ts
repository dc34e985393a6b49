import { after } from './ops/index.js';
import { makeNode, type Node, type Tensor } from './tensor.js';

/**
 * Gradient checkpointing (Chen et al., arXiv:1604.06174). Between one checkpoint and the next, what the forward pass
 * computed is not kept: on its way back the walk of `gradients` meets copies that compute it again from the checkpoint.
 * They hang on the gradient that arrives there: so they run late, and no optimizer that merges equal nodes sees any. What
 * lies behind the last checkpoint is needed at once, and is not computed twice.
 */
export class Recomputation {
  /** Nodes between each checkpoint and the next, in order. */
  private readonly segments: Node[][];
  private readonly segmentOf = new Map<Node, number>();
  private readonly copies = new Map<Node, Node>();

  /** `checkpoints` in the order of the forward pass; each cuts all paths from those before it to those after it. */
  constructor(
    nodes: readonly Node[],
    private readonly checkpoints: readonly Tensor[],
  ) {
    this.segments = checkpoints.slice(1).map(() => []);
    const indexOf = new Map(checkpoints.map((t, i) => [t, i]));
    for (const node of nodes) {
      const behind = node.inputs.map((t) => indexOf.get(t) ?? this.segmentOf.get(t.node) ?? -1);
      const segment = Math.max(-1, ...behind);
      this.segmentOf.set(node, segment);
      this.segments[segment]?.push(node);
    }
  }

  /** The node whose values a gradient rule is to use in place of `node`'s, given the gradient of its output. */
  copyOf(node: Node, gradient: Tensor): Node {
    const segment = this.segmentOf.get(node)!;
    if (!this.segments[segment]) return node;
    if (!this.copies.has(node)) this.copy(segment, gradient);
    return this.copies.get(node)!;
  }

  private copy(segment: number, gradient: Tensor): void {
    const start = this.checkpoints[segment];
    const copied = new Map([[start, after(start, gradient)]]);
    for (const node of this.segments[segment]) {
      const inputs = node.inputs.map((t) => copied.get(t) ?? t);
      const outputs = makeNode(node.op, inputs, node.attrs, node.outputs);
      this.copies.set(node, outputs[0].node);
      node.outputs.forEach((t, i) => {
        copied.set(t, outputs[i]);
      });
    }
  }
}
