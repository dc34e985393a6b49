import { f32 } from '../../base/tensor.js';
import { constant, layerNorm } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { NormPlace, Sites } from '../model.js';

/**
 * LayerNorm (Ba et al., arXiv:1607.06450) over the last axis of `width`, by the gains and biases of a module; without biases
 * where it has none.
 */
export function layerNormed(
  sites: Sites,
  name: string,
  x: Tensor,
  width: number,
  eps: number,
  { place, bias = true }: { place?: NormPlace; bias?: boolean } = {},
): Tensor {
  const param = (part: string) => sites.param(`${name}.${part}`, [width], place);
  const none = () => constant(f32(new Float32Array(width), [width]));
  return layerNorm(x, param('weight'), bias ? param('bias') : none(), eps);
}
