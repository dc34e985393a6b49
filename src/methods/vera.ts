import * as z from 'zod';
import { firstColumns, firstRows, scaleRows } from '../base/linalg/matrix.js';
import { Rng } from '../base/rng.js';
import { checkJson } from '../formats/io/json.js';
import { peftVeraConfig } from '../formats/peftConfig.js';
import { add, matmul, mul, reshape, slice } from '../graph/ops/index.js';
import { type Extras, extraTrainables } from './extras.js';
import { snakeKeys } from './keys.js';
import { given, layerChoice, layerShape, layersToPeft } from './layerOptions.js';
import { loraOptions, scaled } from './lora.js';
import { type Method, type SiteContext, siteTensor, type Trainable } from './method.js';
import { uniformStart } from './starts.js';
import { namedTargets, selectTargets, type TargetChoice } from './targets.js';

/** VeRA's options, named as in PEFT's VeraConfig. */
export interface VeraConfig
  extends Omit<TargetChoice, 'excludeModules'>,
    Omit<Extras, 'trainableTokenIndices'> {
  /** Rank of the shared random matrices. */
  r: number;
  /** Probability with which an element of A's input is dropped while training. */
  veraDropout: number;
  /** First value of d. */
  dInitial: number;
  /** Seed of the random matrices. */
  projectionPrngKey: number;
}

const options = z.strictObject({
  r: z.int().positive().default(256).describe('rank of the shared random matrices'),
  vera_dropout: z.number().min(0).lt(1).default(0).describe("VeRA: dropout of A's input while training"),
  d_initial: z.number().default(0.1).describe('VeRA: first value of the vector d'),
  projection_prng_key: z.int().default(0).describe('VeRA: seed of the random matrices'),
  ...layerShape,
  bias: loraOptions.shape.bias,
});

/**
 * VeRA (Kopiczko et al., arXiv:2310.11454): h = W₀x + b ∘ B(d ∘ (A·x)), where A [r, in] and B [out, r] are random,
 * never train and are shared by all sites (cut to each one's size); only the vectors d [r] and b [out] train.
 * b starts at zero, so training starts at the base.
 */
export const vera: Method<VeraConfig> = {
  name: 'vera',
  card: {
    title: 'VeRA',
    paper: 'arXiv:2310.11454',
    parameters: 'r + out a target',
    inference: 'two products of rank r a target, and two scalings',
    merges: true,
    peft: 'VERA',
  },
  startsAtBase: true,
  options,

  parse(place, config) {
    const c = checkJson(place, snakeKeys(config), options);
    return {
      r: c.r,
      veraDropout: c.vera_dropout,
      dInitial: c.d_initial,
      projectionPrngKey: c.projection_prng_key,
      ...layerChoice(place, c),
      bias: c.bias,
    };
  },

  resolve: (c, { sites }) => namedTargets(c, sites),

  select(c, model) {
    const targets = selectTargets(c, model.sites);
    const widest = Math.max(...targets.map((s) => s.in));
    const tallest = Math.max(...targets.map((s) => s.out));
    return [
      projection(c, 'vera_A', [c.r, widest]),
      projection(c, 'vera_B', [tallest, c.r]),
      ...targets.flatMap((site): Trainable[] => [
        siteTensor(site, 'vera_lambda_b', [site.out], () => new Float32Array(site.out)),
        siteTensor(site, 'vera_lambda_d', [c.r], () => new Float32Array(c.r).fill(c.dInitial)),
      ]),
      ...extraTrainables(c, model, new Set(targets.map((site) => site.name))),
    ];
  },

  toPeft: (c) =>
    peftVeraConfig({
      r: c.r,
      vera_dropout: c.veraDropout,
      d_initial: c.dInitial,
      projection_prng_key: c.projectionPrngKey,
      ...layersToPeft(c),
      bias: c.bias === 'lora_only' ? 'vera_only' : c.bias,
      task_type: 'CAUSAL_LM',
    }),

  fromPeft(peft, sites) {
    if (peft.peft_type !== 'VERA') return undefined;
    return {
      r: peft.r,
      veraDropout: peft.vera_dropout,
      dInitial: peft.d_initial,
      projectionPrngKey: peft.projection_prng_key,
      targetModules: sites,
      bias: peft.bias === 'vera_only' ? 'lora_only' : peft.bias,
      ...given('modulesToSave', peft.modules_to_save?.length ? peft.modules_to_save : undefined),
    };
  },

  linear(c, context, y) {
    const { a, b, lambdaB, lambdaD } = partsOf(context);
    const { x, scale } = context.dropped(c.veraDropout);
    const u = mul(matmul(x, a, { transB: true }), lambdaD);
    return add(y, mul(matmul(u, b, { transB: true, alpha: scale }), lambdaB));
  },

  merge(_, context, weight) {
    const { a, b, lambdaB, lambdaD } = partsOf(context);
    return add(weight, matmul(mul(mul(b, lambdaD), reshape(lambdaB, [context.site.out, 1])), a));
  },

  factors:
    () =>
    ({ site, value, shared }) => {
      const b = firstRows(scaled(shared('vera_B')), site.out);
      const a = firstColumns(scaled(shared('vera_A')), site.in);
      return {
        b: scaleRows(b, value('vera_lambda_b').data),
        a: scaleRows(a, value('vera_lambda_d').data),
      };
    },
};

/** A shared random matrix, Kaiming uniform as in PEFT: U(-√(6/n), √(6/n)) over n columns. */
function projection(c: VeraConfig, name: string, shape: readonly [number, number]): Trainable {
  const bound = Math.sqrt(6 / shape[1]);
  return {
    name,
    shape,
    requiresGrad: false,
    // Of its own seed: the projection belongs to the configuration, not to the run.
    init: () => uniformStart(shape[0] * shape[1], bound)(new Rng(c.projectionPrngKey, name)),
  };
}

/** What VeRA has at a site: A [r, in], B [out, r], b [out], d [r]. */
function partsOf({ site, param, shared }: Pick<SiteContext, 'site' | 'param' | 'shared'>) {
  return {
    a: slice(shared('vera_A'), 1, 0, site.in),
    b: slice(shared('vera_B'), 0, 0, site.out),
    lambdaB: param('vera_lambda_b'),
    lambdaD: param('vera_lambda_d'),
  };
}
