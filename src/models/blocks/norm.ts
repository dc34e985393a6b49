import { layerNorm } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { NormPlace, Sites } from '../model.js';

/** LayerNorm (Ba et al., arXiv:1607.06450) over the last axis of `width`, by the gains and biases of a module. */
export function layerNormed(
  sites: Sites,
  name: string,
  x: Tensor,
  width: number,
  eps: number,
  place?: NormPlace,
): Tensor {
  const param = (part: string) => sites.param(`${name}.${part}`, [width], place);
  return layerNorm(x, param('weight'), param('bias'), eps);
}
