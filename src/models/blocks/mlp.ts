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
  /** What its matrices are called; default: PROJECTIONS. */
  names?: Readonly<Record<'gate' | 'up' | 'down', string>>;
  /** The expert that it is, of a mixture. */
  expert?: number;
}

const PROJECTIONS = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

/** down(f(gate(x)) ∘ up(x)); with SiLU it is SwiGLU (Shazeer, arXiv:2002.05202). x, result: [tokens, hidden]. */
export function gatedMlp(sites: Sites, c: GatedMlp, x: Tensor): Tensor {
  const { at, layer, hidden, inner, bias, names = PROJECTIONS, expert } = c;
  const place = { bias, layer, ...(expert !== undefined && { expert }) };
  const wide = { ...place, in: hidden, out: inner };
  const [gate, up] = c.fused
    ? split(sites.linear(`${at}.gate_up_proj`, x, { ...wide, out: 2 * inner, role: 'mlp.gate_up' }), 1, [
        inner,
        inner,
      ])
    : [
        sites.linear(`${at}.${names.gate}`, x, { ...wide, role: 'mlp.gate' }),
        sites.linear(`${at}.${names.up}`, x, { ...wide, role: 'mlp.up' }),
      ];
  const shape = { ...place, in: inner, out: hidden, role: 'mlp.down' } as const;
  return sites.linear(`${at}.${names.down}`, mul(ACTIVATIONS[c.activation](gate), up), shape);
}
