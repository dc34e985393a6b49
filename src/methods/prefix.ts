import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import { add, matmul, tanh } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { snakeKeys } from './keys.js';
import type { Method, Trainable } from './method.js';
import { normalStart, uniformStart } from './starts.js';
import { optionsOf, promptKeys, virtualTokens } from './virtualTokens.js';

export interface PrefixConfig {
  numVirtualTokens: number;
  /** Trains a small network that the keys and values come out of, instead of them. */
  prefixProjection: boolean;
  /** Width of that network's middle; default: the width of a layer's keys. */
  encoderHiddenSize?: number;
}

const options = z.strictObject({
  num_virtual_tokens: virtualTokens,
  prefix_projection: z
    .boolean()
    .default(false)
    .describe('prefix: train a small network that makes the keys and values, instead of them'),
  encoder_hidden_size: z
    .int()
    .positive()
    .optional()
    .describe("prefix: width of that network (default: that of a layer's keys)"),
});

/** The keys and values themselves [virtual tokens, layers · (key, value) · kvHeads · headDim], as PEFT saves them. */
const SAVED = 'prompt_embeddings';
/** The network's parts, by PEFT's names. */
const EMBEDDING = 'prefix_embedding';
const MIDDLE = 'prefix_transform_0';
const LAST = 'prefix_transform_2';

/**
 * Prefix-layer tuning (Li and Liang, arXiv:2101.00190): each layer attends to trained keys and values before its own,
 * which therefore begin at position `numVirtualTokens`. In training they may come out of a network, last(tanh(middle(E)));
 * what is saved is what it gives. In PEFT it is PREFIX_TUNING.
 */
export const prefix: Method<PrefixConfig> = {
  name: 'prefix',
  card: {
    title: 'Prefix-layer tuning',
    paper: 'arXiv:2101.00190',
    parameters: '2 · kvHeads · headDim a layer and virtual token',
    inference: 'attention to the virtual tokens, which take room in the cache',
    merges: false,
    peft: 'PREFIX_TUNING',
  },
  startsAtBase: false,
  options,

  parse(place, config) {
    const c = checkJson(place, snakeKeys(config), options);
    if (c.encoder_hidden_size !== undefined && !c.prefix_projection) {
      throw new UserError(`${place}: encoder_hidden_size is for prefix_projection`);
    }
    return {
      numVirtualTokens: c.num_virtual_tokens,
      prefixProjection: c.prefix_projection,
      ...(c.encoder_hidden_size !== undefined && { encoderHiddenSize: c.encoder_hidden_size }),
    };
  },

  select(c, { cache }) {
    if (!cache) {
      throw new UserError(
        'prefix puts keys and values before those of every layer, and this model takes none (PEFT refuses it, too); prompt is nearest',
      );
    }
    const width = cache.kvHeads * cache.headDim;
    const all = 2 * cache.layers * width;
    const tokens = c.numVirtualTokens;
    if (!c.prefixProjection) return [normal(SAVED, [tokens, all])];
    const middle = c.encoderHiddenSize ?? width;
    return [
      normal(EMBEDDING, [tokens, width]),
      ...linear(MIDDLE, middle, width),
      ...linear(LAST, all, middle),
    ];
  },

  prefix: {
    length: (c) => c.numVirtualTokens,

    build(c, param) {
      if (!c.prefixProjection) return param(SAVED);
      const layer = (name: string, x: Tensor) =>
        add(matmul(x, param(name), { transB: true }), param(`${name}_bias`));
      return layer(LAST, tanh(layer(MIDDLE, param(EMBEDDING))));
    },

    values(c, values) {
      if (!c.prefixProjection) return values.get(SAVED)!;
      const layer = (name: string, x: F32Tensor) =>
        product(x, values.get(name)!, values.get(`${name}_bias`)!);
      const middle = layer(MIDDLE, values.get(EMBEDDING)!);
      return layer(LAST, f32(middle.data.map(Math.tanh), middle.dims));
    },
  },

  savedTensors: (c, values) => new Map([[SAVED, prefix.prefix!.values(c, values)]]),

  folder: {
    peftType: 'PREFIX_TUNING',
    encode: (c) => ({
      ...promptKeys(c.numVirtualTokens),
      encoder_hidden_size: c.encoderHiddenSize ?? null,
      prefix_projection: c.prefixProjection,
    }),
    // What the network gave is what is saved: it has done its work.
    decode: optionsOf,
  },
};

/** As PyTorch starts an embedding. */
function normal(name: string, shape: readonly [number, number]): Trainable {
  return { name, shape, init: normalStart(shape[0] * shape[1]) };
}

/** As PyTorch starts a linear layer. */
function linear(name: string, out: number, inputs: number): Trainable[] {
  const bound = 1 / Math.sqrt(inputs);
  return [
    { name, shape: [out, inputs], init: uniformStart(out * inputs, bound) },
    { name: `${name}_bias`, shape: [out], init: uniformStart(out, bound) },
  ];
}

/** x·wᵀ + b */
function product(x: F32Tensor, w: F32Tensor, b: F32Tensor): F32Tensor {
  const [rows, inner] = x.dims;
  const [out] = w.dims;
  const data = new Float32Array(rows * out);
  for (let i = 0; i < rows; i++) {
    const row = x.data.subarray(i * inner, (i + 1) * inner);
    for (let j = 0; j < out; j++) {
      let sum = b.data[j];
      for (let k = 0; k < inner; k++) sum += row[k] * w.data[j * inner + k];
      data[i * out + j] = sum;
    }
  }
  return f32(data, [rows, out]);
}
