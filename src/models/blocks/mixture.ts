import { mulDims } from '../../base/dims.js';
import {
  div,
  grouped,
  joined,
  mul,
  parts,
  rearrange,
  reshape,
  softmax,
  sum,
  topK,
} from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { Mixture, Sites } from '../model.js';
import { type GatedMlp, gatedMlp } from './mlp.js';

/**
 * Experts (Shazeer et al., arXiv:1701.06538, as Mixtral has them): a router sends each token to some of them, and what they
 * make of it is added up by their shares. An expert computes its own tokens only, so a token costs what `chosen` of them
 * do. x, result: [tokens, hidden].
 */
export function mixture(
  sites: Sites,
  { experts, chosen, inner, normalized, names }: Mixture,
  c: Omit<GatedMlp, 'inner' | 'names' | 'expert'>,
  x: Tensor,
): Tensor {
  const { at, layer, hidden } = c;
  const [tokens] = x.shape;
  const logits = sites.linear(`${at}.gate`, x, { in: hidden, out: experts, layer, role: 'router' });
  const { values, index } = topK(softmax(logits), chosen);
  const shares = normalized ? div(values, sum(values, 1, true)) : values;
  const { order, rows, places, sizes } = grouped(index, experts);
  const sent = parts(
    rearrange(x, rows, places),
    sizes,
    Array.from({ length: experts }, (_, e) => `${at}.experts.${e}`),
  );
  const made = sent.map((rowsOfExpert, expert) =>
    gatedMlp(sites, { ...c, at: `${at}.experts.${expert}`, inner, names, expert }, rowsOfExpert),
  );
  const whole = mulDims(tokens, chosen);
  const all = joined(made, sizes, { names: sent.map(({ shape }) => String(shape[0])), whole });
  const back = reshape(rearrange(all, places, order), [tokens, chosen, hidden]);
  return sum(mul(back, reshape(shares, [tokens, chosen, 1])), 1);
}
