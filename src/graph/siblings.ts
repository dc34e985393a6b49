import { sizeOf } from '../base/tensor.js';
import { apply } from './op.js';
import { concat, opOf, reshape, split } from './ops/index.js';
import { makeNode, type Node, reachable, type Tensor } from './tensor.js';

/**
 * Makes one node of many equal small ones. A method that computes something of its parameters alone at each site (the
 * norms of DoRA's rows) has the same few nodes there, hundreds of times; here each becomes one over the rows of all
 * sites: concat, the node, split, where a concat of what was split before is left out. Joined are
 * - nodes behind parameters only, of fixed shape, with the same number of nodes before them;
 * - nodes that nothing uses but the graph's caller: the last one of each gradient.
 * `detach` has no meaning once gradients are made, and goes.
 */
export function joinSiblings(roots: readonly Tensor[]): Tensor[] {
  const stages = new Stages(roots);
  const groups = new Map<string, Node[]>();
  for (const node of stages.nodes) {
    const key = stages.keyOf(node);
    if (key !== undefined) groups.set(key, [...(groups.get(key) ?? []), node]);
  }

  const done = new Map<Tensor, Tensor>();
  const current = (t: Tensor) => done.get(t)!;
  for (const node of stages.nodes) {
    if (done.has(node.outputs[0])) continue;
    const group = groups.get(stages.keyOf(node) ?? '') ?? [];
    if (node.op === 'detach') done.set(node.outputs[0], current(node.inputs[0]));
    else if (group.length >= FEWEST) {
      // Equal shapes side by side, so that what one group splits the next one finds whole.
      const sorted = [...group].sort((a, b) => compare(shapeOf(a), shapeOf(b)) || a.id - b.id);
      const results = join(sorted, current);
      for (const [i, { outputs }] of sorted.entries()) done.set(outputs[0], results[i]);
    } else {
      const outputs = makeNode(node.op, node.inputs.map(current), node.attrs, node.outputs);
      for (const [i, t] of node.outputs.entries()) done.set(t, outputs[i]);
    }
  }
  return roots.map(current);
}

/** Joining fewer nodes than this saves none. */
const FEWEST = 4;

/** Elements above which copying an operand costs more than a node. */
const LARGEST = 2 ** 17;

const ELEMENTWISE = new Set(['add', 'sub', 'mul', 'div', 'neg', 'exp', 'log', 'sqrt', 'sigmoid', 'silu']);

/** When a node can be computed: parameters' nodes by their depth, then what sees data, then what only the caller uses. */
const DATA = 1e6;
const SINK = DATA + 1;

class Stages {
  /** All nodes, inputs first, those of one stage together. */
  readonly nodes: readonly Node[];
  private readonly stage = new Map<Node, number>();
  /** Parameters' nodes that depend on no parameter: the engine computes them when it loads. */
  private readonly constant = new Set<Node>();

  constructor(roots: readonly Tensor[]) {
    const nodes = reachable(roots);
    const used = new Set(nodes.flatMap((node) => node.inputs.map((t) => t.node)));
    for (const node of nodes) {
      const before = Math.max(0, ...node.inputs.map((t) => this.stage.get(t.node)!));
      const fixed = node.outputs.every((t) => t.shape.every((d) => typeof d === 'number'));
      const depth = before + Number(node.inputs.length > 0 && node.op !== 'detach');
      const sees = before >= DATA || !fixed;
      this.stage.set(node, sees ? (used.has(node) || !fixed ? DATA : SINK) : depth);
      if (node.op !== 'input' && node.inputs.every((t) => this.constant.has(t.node))) this.constant.add(node);
    }
    // Leaves come first: the inputs tell sizes to all that is emitted behind them.
    const order = (node: Node) => (node.inputs.length === 0 ? -1 : this.stage.get(node)!);
    this.nodes = nodes.sort((a, b) => order(a) - order(b) || a.id - b.id);
  }

  /** Nodes of equal key can be joined; undefined where a node cannot. */
  keyOf(node: Node): string | undefined {
    const stage = this.stage.get(node)!;
    const { op, inputs, outputs } = node;
    if (
      stage === DATA ||
      this.constant.has(node) ||
      inputs.some((t) => sizeOf(t.shape as number[]) > LARGEST)
    )
      return undefined;
    const [first] = inputs;
    const key = `${stage} ${op} ${JSON.stringify(node.attrs)}`;
    if (ELEMENTWISE.has(op) && first.rank > 0) {
      const shape = String(outputs[0].shape);
      return inputs.every((t) => String(t.shape) === shape) ? `${key} ${first.shape.slice(1)}` : undefined;
    }
    if (op === 'sum' && first.rank === 2)
      return isRowSum(node.attrs) ? `${key} ${first.shape.slice(1)}` : undefined;
    if (op !== 'matmul' || stage >= DATA || inputs.some((t) => t.rank !== 2 || this.constant.has(t.node)))
      return undefined;
    return `${key} ${inputs.map((t) => t.shape).join(' ')}`;
  }
}

function isRowSum(attrs: unknown): boolean {
  const { axes, keepDims } = attrs as { axes: readonly number[]; keepDims: boolean };
  return String(axes) === '1' && !keepDims;
}

/** One node for all of a group; results in its order. */
function join(group: readonly Node[], current: (t: Tensor) => Tensor): readonly Tensor[] {
  const { op, attrs, inputs } = group[0];
  const operands = inputs.map((_, i) => joined(group.map((node) => current(node.inputs[i]))));
  const rows = group.map(({ outputs }) => outputs[0].shape[0]);
  if (op !== 'matmul') return split(apply(op, opOf(op), operands, attrs)[0], 0, rows);
  const stacks = operands.map((t, i) => reshape(t, [group.length, ...inputs[i].shape]));
  const product = apply(op, opOf(op), stacks, attrs)[0];
  const [count, height, width] = product.shape as number[];
  return split(reshape(product, [count * height, width]), 0, rows);
}

/** Tensors joined along their rows; what was split along them is taken whole. */
function joined(parts: readonly Tensor[]): Tensor {
  const pieces: Tensor[] = [];
  for (let i = 0; i < parts.length; ) {
    const { op, inputs, outputs, attrs } = parts[i].node;
    const whole =
      op === 'split' && (attrs as { axis: number }).axis === 0 && outputs.every((t, j) => t === parts[i + j]);
    pieces.push(whole ? inputs[0] : parts[i]);
    i += whole ? outputs.length : 1;
  }
  return pieces.length === 1 ? pieces[0] : concat(pieces, 0);
}

function shapeOf(node: Node): string {
  return node.inputs.map((t) => t.shape).join(' ');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
