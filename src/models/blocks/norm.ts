import { layerNorm } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { Sites } from '../model.js';

/** LayerNorm (Ba et al., arXiv:1607.06450) over the last axis of `width`, by the gains and biases of a module. */
export function layerNormed(sites: Sites, name: string, x: Tensor, width: number, eps: number): Tensor {
  return layerNorm(x, sites.param(`${name}.weight`, [width]), sites.param(`${name}.bias`, [width]), eps);
}
