import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { matrix } from '../base/linalg/matrix.js';
import type { F32Tensor } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import { peftMissConfig } from '../formats/peftConfig.js';
import { add, frozenFor, matmul, pad, reshape, slice, sum, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Site } from '../models/model.js';
import { type Extras, extraTrainables } from './extras.js';
import { snakeKeys } from './keys.js';
import { given, layerChoice, layersToPeft, loraLayerShape } from './layerOptions.js';
import { lora } from './lora.js';
import { type Method, siteTensor, type Trainable } from './method.js';
import { initWeights, ownInitWeights, uniformStart } from './starts.js';
import { namedTargets, selectTargets, type TargetChoice } from './targets.js';

/** MiSS's options, named as in PEFT's MissConfig. */
export interface MissConfig extends TargetChoice, Omit<Extras, 'trainableTokenIndices'> {
  /** Rank of the update: inputs whose numbers are equal modulo r share a row of the block. */
  r: number;
  /** Of "mini": columns of the block; outputs whose numbers are equal modulo it share one. */
  miniR?: number;
  /** Probability with which an element of the input is dropped while training. */
  missDropout: number;
  /** "bat" and "mini" are other kinds; of the plain one true starts at zero, false at random. */
  initWeights: boolean | 'bat' | 'mini';
}

const { trainable_token_indices: _, ...layers } = loraLayerShape;
const options = z.strictObject({
  r: z.int().positive().default(64).describe('rank of the update'),
  mini_r: z.int().positive().optional().describe('MiSS of the kind mini: columns of its block (default: 1)'),
  miss_dropout: z.number().min(0).lt(1).default(0).describe('MiSS: dropout of the input while training'),
  init_weights: initWeights,
  ...layers,
});

/**
 * MiSS (Kang & Yin, arXiv:2409.15371): h = W₀x + Dᵀ·u, where u [r] sums the shards of x (its elements whose numbers are equal
 * modulo r) and the block D [r, out], zero at first, is all that trains. "mini" repeats a block [r, mini_r] over the outputs.
 * "bat" (the paper's Bat, after Bone) changes each r × r block of W₀ by W₀·D + D with the D [r, r] of its rows.
 */
export const miss: Method<MissConfig> = {
  name: 'miss',
  card: {
    title: 'MiSS',
    paper: 'arXiv:2409.15371',
    parameters: 'r·out a target; mini: r·mini_r',
    inference: 'a sum and a product of rank r a target; bat: a matrix of its size',
    merges: true,
    peft: 'MISS',
  },
  startsAtBase: true,
  learningRate: lora.learningRate,
  options,

  parse(place, config) {
    const c = checkJson(place, snakeKeys(config), options);
    const init = ownInitWeights(place, 'miss', c.init_weights, ['bat', 'mini']);
    if (c.mini_r !== undefined && init !== 'mini') {
      throw new UserError(`${place}: mini_r is for init_weights "mini"`);
    }
    if (c.miss_dropout > 0 && init === 'bat') {
      throw new UserError(`${place}: miss_dropout is not for init_weights "bat": PEFT drops nothing there`);
    }
    return {
      r: c.r,
      ...given('miniR', init === 'mini' ? (c.mini_r ?? 1) : undefined),
      missDropout: c.miss_dropout,
      initWeights: init,
      ...layerChoice(place, c),
      bias: c.bias,
    };
  },

  resolve: (c, { sites }) => namedTargets(c, sites),

  select(c, model) {
    const targets = selectTargets(c, model.sites);
    return [
      ...targets.map((site) => siteTensor(site, 'miss_block', blockShape(c, site), blockStart(c, site))),
      ...extraTrainables(c, model, new Set(targets.map((site) => site.name))),
    ];
  },

  toPeft: (c) =>
    peftMissConfig({
      r: c.r,
      ...given('mini_r', c.miniR),
      miss_dropout: c.missDropout,
      init_weights: c.initWeights,
      ...layersToPeft(c),
      bias: c.bias === 'lora_only' ? 'MiSS_only' : c.bias,
      task_type: 'CAUSAL_LM',
    }),

  fromPeft(peft, sites) {
    if (peft.peft_type !== 'MISS') return undefined;
    const { r, init_weights: kind } = peft;
    return {
      r,
      ...given('miniR', kind === 'mini' ? peft.mini_r : undefined),
      missDropout: kind === 'bat' ? 0 : peft.miss_dropout,
      initWeights: kind,
      targetModules: sites,
      bias: peft.bias === 'MiSS_only' ? 'lora_only' : peft.bias,
      ...given('modulesToSave', peft.modules_to_save?.length ? peft.modules_to_save : undefined),
    };
  },

  linear(c, { site, x, param, weight, dropped }, y) {
    const block = param('miss_block');
    if (c.initWeights === 'bat') {
      return add(y, matmul(x, batUpdate(c, frozenFor(weight(), x), block), { transB: true }));
    }
    const { x: kept, scale } = dropped(c.missDropout);
    const [tokens] = x.shape;
    const shards = reshape(toShards(c, kept), [tokens, shardCount(c, site), c.r]);
    const update = matmul(sum(shards, 1), block, { alpha: scale });
    const width = Number(block.shape[1]);
    if (width === site.out) return add(y, update);
    const repeats = site.out / width;
    const parts = add(reshape(y, [tokens, repeats, width]), reshape(update, [tokens, 1, width]));
    return reshape(parts, [tokens, site.out]);
  },

  merge(c, { site, param }, weight) {
    const block = param('miss_block');
    if (c.initWeights === 'bat') return add(weight, batUpdate(c, weight, block));
    const width = Number(block.shape[1]);
    const count = shardCount(c, site);
    const shards = reshape(toShards(c, weight), [site.out / width, width, count, c.r]);
    const merged = add(shards, reshape(transpose(block, [1, 0]), [1, width, 1, c.r]));
    return slice(reshape(merged, [site.out, count * c.r]), 1, 0, site.in);
  },

  factors: (c) => {
    if (c.initWeights === 'bat') return undefined;
    return ({ site, value }) => ({ b: repeatedBlock(value('miss_block'), site), a: shardSums(c, site) });
  },
};

/** D's shape. Throws UserError where the ranks do not fit the site. */
function blockShape({ r, miniR, initWeights: kind }: MissConfig, site: Site): number[] {
  const { name, in: width, out, layout } = site;
  if (layout === 'conv1d') {
    throw new UserError(
      `PEFT has no MiSS for ${name}, which is stored as [in, out]: take lora, vera or hira`,
    );
  }
  if (r > width) throw new UserError(`r ${r} is larger than the ${width} inputs of ${name}`);
  if (kind === 'bat') {
    if (width % r === 0 && out % r === 0) return [out / r, r, r];
    throw new UserError(
      `init_weights "bat" needs an r that divides the sides of each matrix, and ${r} does not divide ${out} × ${width} of ${name}`,
    );
  }
  if (miniR === undefined) return [r, out];
  if (out % miniR === 0) return [r, miniR];
  throw new UserError(`mini_r ${miniR} does not divide the ${out} outputs of ${name}`);
}

/** Zero, or as PEFT has it random: Kaiming uniform over the outputs. */
function blockStart(c: MissConfig, site: Site): NonNullable<Trainable['init']> {
  if (c.initWeights === false) return uniformStart(c.r * site.out, 1 / Math.sqrt(site.out));
  return () => new Float32Array(blockShape(c, site).reduce((n, size) => n * size, 1));
}

function shardCount({ r }: MissConfig, { in: width }: Pick<Site, 'in'>): number {
  return Math.ceil(width / r);
}

/** Columns up to a whole number of shards, those beyond the input zero. */
function toShards({ r }: MissConfig, x: Tensor): Tensor {
  const width = Number(x.shape[1]);
  return width % r === 0 ? x : pad(x, 1, 0, r - (width % r));
}

/** What "bat" adds to W [out, in]: W·D + D in each r × r block, with the D of its rows. */
function batUpdate({ r }: MissConfig, w: Tensor, block: Tensor): Tensor {
  const [out, width] = w.shape.map(Number);
  const [rows, columns] = [out / r, width / r];
  const product = matmul(reshape(w, [rows, r * columns, r]), block);
  const update = add(reshape(product, [rows, r, columns, r]), reshape(block, [rows, r, 1, r]));
  return reshape(update, [out, width]);
}

/** Dᵀ [out, r], of "mini" repeated. */
function repeatedBlock({ dims: [r, width], data }: F32Tensor, { out }: Site) {
  return matrix(
    out,
    r,
    Float32Array.from({ length: out * r }, (_, i) => data[(i % r) * width + (Math.floor(i / r) % width)]),
  );
}

/** What sums the shards, [r, in]. */
function shardSums({ r }: MissConfig, { in: width }: Site) {
  const sums = matrix(r, width);
  for (let i = 0; i < width; i++) sums.data[(i % r) * width + i] = 1;
  return sums;
}
