import { UserError } from '../base/errors.js';
import { add, detach, div, matmul, mul, reshape, sqrt, sub, sum } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { matrixName, type Site } from '../models/model.js';
import {
  embeddingUpdate,
  fromPeft,
  type LoraConfig,
  lora,
  loraMatrices,
  scaleOf,
  selectLora,
  toPeft,
} from './lora.js';
import { type Method, siteTensor, type Trainable } from './method.js';

/**
 * DoRA (Liu et al., arXiv:2402.09353): W' = m ∘ V/‖V‖ with V = W₀ + s·B·A, the norm of each row. The magnitude m
 * [out] starts as ‖W₀‖, so that training starts at the base; the norm counts as a constant in the gradient
 * (section 4.3 there). In PEFT it is LoRA with use_dora.
 */
export const dora: Method<LoraConfig> = {
  ...lora,
  name: 'dora',
  card: {
    title: 'DoRA',
    paper: 'arXiv:2402.09353',
    parameters: 'r·(in + out) + out a target',
    inference: 'two products of rank r a target, and the norms of its rows',
    merges: true,
    peft: 'LORA with use_dora',
  },
  parse(place, config) {
    const parsed = lora.parse(place, config);
    if (parsed.loraBias) throw new UserError(`${place}: lora_bias is not for dora, as PEFT has it`);
    return parsed;
  },
  select: (c, model) => selectLora(c, model, (_, site) => [...loraMatrices(c, site), magnitude(site)]),
  toPeft: (c) => ({ ...toPeft(c), use_dora: true }),
  fromPeft: (peft, sites) => (peft.peft_type === 'LORA' && peft.use_dora ? fromPeft(peft, sites) : undefined),

  linear(c, { site, x, param, weight, bias, dropped }, y) {
    const s = scaleOf(c, site);
    const [w, a, b] = [weight(), param('lora_A'), param('lora_B')];
    const gain = div(param('lora_magnitude_vector'), detach(rowNorms(w, a, b, s)));
    const { x: kept, scale } = dropped(c.loraDropout);
    const updated = (own: Tensor) =>
      add(own, matmul(matmul(kept, a, { transB: true }), b, { transB: true, alpha: s * scale }));
    if (kept === x) {
      const offset = bias();
      if (!offset) return mul(updated(y), gain);
      return add(mul(updated(sub(y, offset)), gain), offset);
    }
    // With dropout the base's own y stays whole, and what DoRA changes of it sees the dropped input, as in PEFT.
    const own = matmul(kept, w, { transB: true, alpha: scale });
    return add(y, sub(mul(updated(own), gain), own));
  },

  embedding(c, context, y) {
    const { site, param, weight } = context;
    const s = scaleOf(c, site);
    const norms = columnNorms(weight(), param('lora_embedding_A'), param('lora_embedding_B'), s);
    const gain = div(param('lora_magnitude_vector'), detach(norms));
    return mul(add(y, reshape(embeddingUpdate(context, s), [...y.shape])), gain);
  },

  // Not V − W₀ alone: m scales the rows of W₀ too.
  factors: undefined,

  merge(c, context, weight) {
    const { site, param } = context;
    const v = lora.merge!(c, context, weight);
    const axis = site.kind === 'embedding' ? 0 : 1;
    const gain = div(param('lora_magnitude_vector'), sqrt(sum(mul(v, v), axis)));
    return mul(v, reshape(gain, site.kind === 'embedding' ? [1, site.out] : [site.out, 1]));
  },
};

/** m, which starts as the norms of the base's rows; of an embedding, whose matrix is [vocabulary, out], the columns'. */
function magnitude(site: Site): Trainable {
  return siteTensor(site, 'lora_magnitude_vector', [site.out], async (_, base) => {
    const w = await base(matrixName(site));
    const [stride, step] = site.kind === 'embedding' ? [1, site.out] : [site.in, 1];
    return Float32Array.from({ length: site.out }, (_, row) => {
      let total = 0;
      for (let i = 0; i < site.in; i++) total += w[row * stride + i * step] ** 2;
      if (total > 0) return Math.sqrt(total);
      throw new UserError(`row ${row} of ${site.name} is zero: dora cannot scale it, lora can train it`);
    });
  });
}

/**
 * ‖W + s·B·A‖ of each row, [out], out of ‖W‖² + 2s·rowsum(W·Aᵀ ∘ B) + s²·rowsum(B·A·Aᵀ ∘ B): nothing of W's size
 * is made in a step, and ‖W‖², being constant, is computed once at load.
 */
function rowNorms(w: Tensor, a: Tensor, b: Tensor, s: number): Tensor {
  const gram = matmul(a, a, { transB: true, alpha: s * s });
  const cross = add(matmul(w, a, { transB: true, alpha: 2 * s }), matmul(b, gram));
  return sqrt(add(sum(mul(w, w), 1), sum(mul(cross, b), 1)));
}

/** The same of the columns of W [vocabulary, out] + s·(B·A)ᵀ, [out], with B [out, r] and A [r, vocabulary]. */
function columnNorms(w: Tensor, a: Tensor, b: Tensor, s: number): Tensor {
  const gram = matmul(a, a, { transB: true, alpha: s * s });
  const cross = add(matmul(w, a, { transA: true, transB: true, alpha: 2 * s }), matmul(b, gram));
  return sqrt(add(sum(mul(w, w), 0), sum(mul(cross, b), 1)));
}
