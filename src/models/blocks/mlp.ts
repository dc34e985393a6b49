import { mul, split } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { Sites } from '../model.js';
import { ACTIVATIONS, type Activation } from './activation.js';

/** A feed-forward block with a gate. */
export interface GatedMlp {
  /** Checkpoint name of the block. */
  at: string;
  layer: number;
  hidden: number;
  inner: number;
  bias: boolean;
  activation: Activation;
  /** One matrix `gate_up_proj`, the gate's rows first, instead of two (Phi-3). */
  fused: boolean;
}

/** down(f(gate(x)) ∘ up(x)); with SiLU it is SwiGLU (Shazeer, arXiv:2002.05202). x, result: [tokens, hidden]. */
export function gatedMlp(sites: Sites, c: GatedMlp, x: Tensor): Tensor {
  const { at, layer, hidden, inner, bias } = c;
  const wide = { in: hidden, out: inner, bias, layer };
  const [gate, up] = c.fused
    ? split(sites.linear(`${at}.gate_up_proj`, x, { ...wide, out: 2 * inner, role: 'mlp.gate_up' }), 1, [
        inner,
        inner,
      ])
    : [
        sites.linear(`${at}.gate_proj`, x, { ...wide, role: 'mlp.gate' }),
        sites.linear(`${at}.up_proj`, x, { ...wide, role: 'mlp.up' }),
      ];
  const shape = { in: inner, out: hidden, bias, layer, role: 'mlp.down' } as const;
  return sites.linear(`${at}.down_proj`, mul(ACTIVATIONS[c.activation](gate), up), shape);
}
