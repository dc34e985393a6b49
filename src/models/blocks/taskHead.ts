import type { Tensor } from '../../graph/tensor.js';
import type { Sites } from '../model.js';

/** What a head is for: an answer for a row, or for each of its tokens. */
export type HeadKind = 'sequence' | 'token';

/** The layers that a task puts behind a network's hidden states. */
export interface TaskHead {
  /** Its module that trains whatever the method, as PEFT's modules_to_save names it. */
  readonly module: string;
  /** Of which positions of a row its answer is made. */
  readonly reads: 'first' | 'last' | 'mean' | 'each';
  /** Hidden states [n, hidden] to logits [n, outputs]. */
  logits(sites: Sites, hidden: Tensor): Tensor;
}

/** A head that ends in one linear layer; `before` is what comes first. */
export function linearHead(
  name: string,
  { in: width, out, bias = true }: { in: number; out: number; bias?: boolean },
  reads: TaskHead['reads'],
  before: (sites: Sites, x: Tensor) => Tensor = (_, x) => x,
): TaskHead {
  return {
    module: name.split('.')[0],
    reads,
    logits: (sites, hidden) =>
      sites.linear(name, before(sites, hidden), { in: width, out, bias, role: 'task' }),
  };
}

/** A layer of a head, as wide as the hidden states. */
export function headLayer(sites: Sites, name: string, x: Tensor, width: number, bias = true): Tensor {
  return sites.linear(name, x, { in: width, out: width, bias, role: 'task' });
}

/** The head of a decoder: one layer, `score`, over the last token of a row or each of them. */
export function scoreHead(
  shape: { in: number; out: number; bias?: boolean },
  kind: HeadKind,
  tokenName = 'score',
): TaskHead {
  return kind === 'token' ? linearHead(tokenName, shape, 'each') : linearHead('score', shape, 'last');
}
