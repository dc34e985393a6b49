/** Memory of training on a GPU as textbooks count it, from shapes alone. What runs here take is forecast in train/memory.ts. */
import { UserError } from '../../base/errors.js';
import { sizeOf } from '../../base/tensor.js';
import { packedBytes, type QuantFormat } from '../../formats/quant/index.js';
import { isInnerLinear } from '../../models/model.js';
import type { Figure } from './parameters.js';
import type { ModelShape } from './shapes.js';

export interface GpuMemoryInput {
  /** Parameters that train. */
  trainable: number;
  /** Whether they are the model's own, as in full fine-tuning, and not added to it. */
  own: boolean;
  /** Rows computed at once. */
  batch: number;
  /** Tokens of a row. */
  length: number;
  gradientCheckpointing?: boolean;
  quantize?: QuantFormat;
}

/** Bytes by what holds them. */
export interface GpuMemory {
  weights: Figure;
  gradients: Figure;
  optimizer: Figure;
  activations: Figure;
  logits: Figure;
  total: number;
}

/**
 * Mixed precision with Adam (Rajbhandari et al., arXiv:1910.02054): two bytes a weight and a gradient, and twelve for a copy
 * in float32 and the two moments of what trains. Activations of a transformer's layer in 16 bits are s·b·h·(34 + 5·a·s/h)
 * bytes, with checkpointing its input alone, 2·s·b·h, and one layer whole (Korthikanti et al., arXiv:2205.05198). Logits are
 * float32. Throws UserError on rows or lengths that are none.
 */
export function gpuMemory(shape: ModelShape, input: GpuMemoryInput): GpuMemory {
  const { trainable: n, own, batch: b, length: s, gradientCheckpointing: again = false } = input;
  for (const [name, value] of [
    ['batch size', b],
    ['length', s],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new UserError(`the ${name} is ${value}, expected a whole number of at least 1`);
    }
  }
  const { layers: l, hiddenSize: h, heads: a, vocabSize: v } = shape;
  const layer = s * b * (34 * h + 5 * a * s);
  const layerText = `${s}·${b}·(34·${h} + 5·${a}·${s})`;
  const base = weightBytes(shape, 2, input.quantize);
  const figures = {
    weights: {
      value: base.value + (own ? 0 : 2 * n),
      formula: `${base.formula}${own ? '' : ' + 2·trained'}`,
      numbers: `${base.numbers}${own ? '' : ` + 2·${n}`}`,
    },
    gradients: { value: 2 * n, formula: '2·trained', numbers: `2·${n}` },
    optimizer: { value: 12 * n, formula: '(4 + 4 + 4)·trained', numbers: `12·${n}` },
    activations: again
      ? {
          value: 2 * s * b * h * l + layer,
          formula: '2·s·b·h·L + s·b·(34·h + 5·a·s)',
          numbers: `2·${s}·${b}·${h}·${l} + ${layerText}`,
        }
      : { value: l * layer, formula: 'L·s·b·(34·h + 5·a·s)', numbers: `${l}·${layerText}` },
    logits: { value: 4 * s * b * v, formula: '4·s·b·V', numbers: `4·${s}·${b}·${v}` },
  };
  return { ...figures, total: Object.values(figures).reduce((sum, { value }) => sum + value, 0) };
}

/** Bytes of a model's weights at so many bytes an element, its linear layers but for the LM head in a format where one is named. */
export function weightBytes(
  { sites, parameters }: Pick<ModelShape, 'sites' | 'parameters'>,
  elementBytes: number,
  format?: QuantFormat,
): Figure {
  const layers = new Set(format && sites.filter(isInnerLinear).map((s) => `${s.name}.weight`));
  let [packed, rest] = [0, 0];
  for (const [name, shape] of parameters) {
    if (format && layers.has(name)) packed += packedBytes(format, [shape[0], shape[1]]);
    else rest += sizeOf(shape);
  }
  const value = packed + elementBytes * rest;
  if (!format) return { value, formula: `${elementBytes}·parameters`, numbers: `${elementBytes}·${rest}` };
  return {
    value,
    formula: `${format} of the linear layers + ${elementBytes}·the rest`,
    numbers: `${packed} + ${elementBytes}·${rest}`,
  };
}
