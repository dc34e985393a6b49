import { sameShape } from '../base/dims.js';
import { add, opOf, reshape, sum } from './ops/index.js';
import { Recomputation } from './recompute.js';
import { type Node, reachable, type Tensor } from './tensor.js';

/**
 * Reverse-mode differentiation: the gradients of `y` (seeded with `seed`, of y's shape) for each tensor of
 * `wrt`. Walks only the nodes that lie between them, so frozen weights cost nothing. Each op's rule is in
 * its own record; a gradient that comes back in a broadcast shape is summed to its input's.
 * With `checkpoints`, in the order of the forward pass, what lies between them is computed again instead of kept
 * (recompute.ts). Throws where a tensor of `wrt` does not influence y, or where an op on the way has no rule.
 */
export function gradients(
  y: Tensor,
  seed: Tensor,
  wrt: readonly Tensor[],
  checkpoints: readonly Tensor[] = [],
): Tensor[] {
  const nodes = reachable([y]);
  const targets = new Set<Tensor>(wrt);
  const onPath = new Set<Node>();
  for (const node of nodes) {
    if (node.inputs.some((t) => targets.has(t) || onPath.has(t.node))) onPath.add(node);
  }
  const recomputation = new Recomputation(nodes, checkpoints);
  const grads = new Map<Tensor, Tensor>([[y, seed]]);
  for (const node of nodes.reverse()) {
    if (!onPath.has(node)) continue;
    const outputs = node.outputs.map((t) => grads.get(t));
    const arrived = outputs.find((g) => g !== undefined);
    if (!arrived) continue;
    const rule = opOf(node.op).vjp;
    if (!rule) throw new Error(`op "${node.op}" has no gradient, and a trainable tensor lies behind it`);
    const inputs = rule(recomputation.copyOf(node, arrived), outputs);
    for (const [i, input] of node.inputs.entries()) {
      const g = inputs[i];
      if (!g || !(targets.has(input) || onPath.has(input.node))) continue;
      const fitted = sumTo(g, input);
      const sofar = grads.get(input);
      grads.set(input, sofar ? add(sofar, fitted) : fitted);
    }
  }
  return wrt.map((t) => {
    const g = grads.get(t);
    if (!g) throw new Error(`no gradient reaches ${JSON.stringify(t.node.attrs)}`);
    return g;
  });
}

/** Sums a gradient over the axes along which `like` was broadcast. */
function sumTo(g: Tensor, like: Tensor): Tensor {
  if (sameShape(g.shape, like.shape)) return g;
  const extra = g.rank - like.rank;
  const axes = g.shape.flatMap((d, i) => (i < extra || like.shape[i - extra] !== d ? [i] : []));
  return axes.length === extra ? sum(g, axes) : reshape(sum(g, axes, true), like.shape);
}
