import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { type Matrix, matrix, scaleColumns, scaleRows, toFloat32 } from '../base/linalg/matrix.js';
import type { Svd } from '../base/linalg/svd.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import type { PeftLoraConfig } from '../formats/peftConfig.js';
import { splitAdapterKey } from '../formats/peftNames.js';
import { add, concat, matmul, neg } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { matrixName, type Site } from '../models/model.js';
import { checkRank } from '../models/rankLimit.js';
import type { Outline } from '../models/shape.js';
import { type LoraConfig, lora, loraOptions, scaled, scaleOf, toPeft } from './lora.js';
import { type Method, type ReadBase, type SiteContext, siteTensor, type Trainable } from './method.js';

/** LoRA's options, but for those that such a method decides itself. */
export const fromBaseOptions = loraOptions.extend({
  init_lora_weights: z
    .literal(true, { error: () => 'this method starts A and B in its own way; leave it out' })
    .default(true),
  lora_bias: z.literal(false, { error: () => 'this method has no bias of B; leave it out' }).default(false),
});

/** B [out, r] and A [r, in] that a site starts with. */
export interface Start {
  b: Matrix;
  a: Matrix;
}

/** The start of a site's matrices, from readers of its matrix in the base and in what the base was quantized from. */
export type StartOf = (
  weight: () => Promise<Float32Array>,
  original: (() => Promise<Float32Array>) | undefined,
) => Promise<Start>;

/** A start in U·Σ·Vᵀ = s·B·A, B and A of equal weight. */
export function balancedStart({ u, s, vt }: Svd, scale: number): Start {
  const roots = s.map((value) => Math.sqrt(value / scale));
  return { b: scaleColumns(u, roots), a: scaleRows(vt, roots) };
}

/**
 * LoRA's tensors, but A and B of each linear target start as `startOf` says, asked once for the two. Throws UserError,
 * with the method's name, on an embedding.
 */
export function startedTogether(
  name: string,
  c: LoraConfig,
  model: Outline,
  startOf: (site: Site, r: number) => StartOf,
): Trainable[] {
  const sites = new Map(model.sites.map((site) => [site.name, site]));
  const starts = new Map<string, (base: ReadBase, original?: ReadBase) => Promise<Start>>();
  return lora.select(c, model).map((trainable): Trainable => {
    if (trainable.at?.part.startsWith('lora_embedding_')) {
      throw new UserError(
        `${name} starts in the matrix of a linear layer, and ${trainable.name} is an embedding's`,
      );
    }
    if (!trainable.at || !isPart(trainable.at.part)) return trainable;
    const { part } = trainable.at;
    const site = sites.get(trainable.at.site)!;
    const start =
      starts.get(site.name) ?? onceFor(site, startOf(site, trainable.shape[part === 'lora_A' ? 0 : 1]));
    starts.set(site.name, start);
    const init: Trainable['init'] = async (_, base, original) =>
      toFloat32((await start(base, original))[part === 'lora_A' ? 'a' : 'b']);
    return { ...trainable, init };
  });
}

/** `startOf` with a site's readers, called the first time only. */
function onceFor(site: Site, startOf: StartOf): (base: ReadBase, original?: ReadBase) => Promise<Start> {
  let made: Promise<Start> | undefined;
  return (base, original) => {
    made ??= startOf(() => base(matrixName(site)), original && (() => original(matrixName(site))));
    return made;
  };
}

/**
 * A LoRA that starts in a part of the base's own matrix: h = Wx + s·(B·A − B₀·A₀)x, where A and B start as A₀ and B₀,
 * so that training starts at the base and A and B have PEFT's gradients. PEFT takes s·B₀·A₀ out of the base instead;
 * here the base stays as it is, and what is saved is a LoRA of twice the rank, [B, −B₀]·[A; A₀], for the original base
 * (what PEFT's path_initial_model_for_weight_conversion makes).
 */
export function fromBaseMethod<C extends LoraConfig>(
  name: string,
  startOf: (config: C, weight: Matrix, r: number, scale: number) => Start,
): Pick<
  Method<C>,
  'name' | 'startsAtBase' | 'select' | 'toPeft' | 'savedTensors' | 'linear' | 'merge' | 'factors'
> {
  return {
    name,
    startsAtBase: true,
    select: (c, model) =>
      startedTogether(name, c, model, (site, r) => {
        checkRank('r', r, site);
        return async (weight) => startOf(c, matrix(site.out, site.in, await weight()), r, scaleOf(c, site));
      }).flatMap((trainable): Trainable[] => {
        const { at, shape, init } = trainable;
        if (!at || !isPart(at.part)) return [trainable];
        const start = siteTensor({ name: at.site }, FROZEN[at.part], shape, init!);
        return [trainable, { ...start, requiresGrad: false }];
      }),
    toPeft: (c) => ofTwiceTheRank(toPeft(c), c.useRslora),

    savedTensors(_, values) {
      const saved = new Map(values);
      for (const [name, value] of values) {
        const key = splitAdapterKey(name);
        if (!key || !isPart(key.part)) continue;
        const start = `${key.site}.${FROZEN[key.part]}`;
        saved.set(name, joined(key.part, value, values.get(start)!));
        saved.delete(start);
      }
      return saved;
    },

    linear(c, context, y) {
      const { site, x, param, dropped } = context;
      const s = scaleOf(c, site);
      const { x: kept, scale } = dropped(c.loraDropout);
      if (kept === x) {
        const { a, b } = both(context);
        return add(y, matmul(matmul(x, a, { transB: true }), b, { transB: true, alpha: s }));
      }
      const through = (input: Tensor, a: Tensor, b: Tensor, alpha: number) =>
        matmul(matmul(input, a, { transB: true }), b, { transB: true, alpha });
      const residual = add(y, through(x, param(FROZEN.lora_A), param(FROZEN.lora_B), -s));
      return add(residual, through(kept, param('lora_A'), param('lora_B'), s * scale));
    },

    factors:
      (c) =>
      ({ site, value }) => {
        const [a, b] = (['lora_A', 'lora_B'] as const).map((part) =>
          joined(part, value(part), value(FROZEN[part])),
        );
        return { b: scaled(b, scaleOf(c, site)), a: scaled(a) };
      },

    merge(c, context, weight) {
      const { a, b } = both(context);
      return add(weight, matmul(b, a, { alpha: scaleOf(c, context.site) }));
    },
  };
}

/** The tensors that keep what A and B started as. */
const FROZEN = { lora_A: 'start_A', lora_B: 'start_B' } as const;
type Part = keyof typeof FROZEN;

function isPart(part: string): part is Part {
  return part in FROZEN;
}

/** [A; A₀] and [B, −B₀]. */
function both({ param }: Pick<SiteContext, 'param'>): { a: Tensor; b: Tensor } {
  return {
    a: concat([param('lora_A'), param(FROZEN.lora_A)], 0),
    b: concat([param('lora_B'), neg(param(FROZEN.lora_B))], 1),
  };
}

/** The same of values. */
function joined(part: Part, { dims: [rows, columns], data }: F32Tensor, start: F32Tensor): F32Tensor {
  const result = new Float32Array(2 * data.length);
  if (part === 'lora_A') {
    result.set(data);
    result.set(start.data, data.length);
    return f32(result, [2 * rows, columns]);
  }
  for (let i = 0; i < rows; i++) {
    const row = i * columns;
    result.set(data.subarray(row, row + columns), 2 * row);
    result.set(
      start.data.subarray(row, row + columns).map((x) => -x),
      2 * row + columns,
    );
  }
  return f32(result, [rows, 2 * columns]);
}

/** Twice the rank at the same scale. */
function ofTwiceTheRank(config: PeftLoraConfig, useRslora: boolean): PeftLoraConfig {
  const factor = useRslora ? Math.SQRT2 : 2;
  const scaled = (patterns: Record<string, number>, by: number) =>
    Object.fromEntries(Object.entries(patterns).map(([pattern, value]) => [pattern, value * by]));
  return {
    ...config,
    r: 2 * config.r,
    lora_alpha: factor * config.lora_alpha,
    rank_pattern: scaled(config.rank_pattern, 2),
    alpha_pattern: scaled(config.alpha_pattern, factor),
    init_lora_weights: true,
  };
}
