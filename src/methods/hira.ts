import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import { peftHiraConfig } from '../formats/peftConfig.js';
import { add, matmul, matmulHadamard, mul, reshape, scalar } from '../graph/ops/index.js';
import type { Site } from '../models/model.js';
import { extraTrainables } from './extras.js';
import { snakeKeys } from './keys.js';
import { given, layerChoice, layerShape, layersToPeft, loraLayerShape } from './layerOptions.js';
import { embeddingUpdate, lora } from './lora.js';
import { type Method, siteTensor, type Trainable } from './method.js';
import { initWeights, normalStart, ownInitWeights, type Start, uniformStart } from './starts.js';
import { namedTargets, selectTargets, type TargetChoice } from './targets.js';

/** HiRA's options, named as in PEFT's HiraConfig. */
export interface HiraConfig extends TargetChoice {
  /** Rank of B·A. */
  r: number;
  /** Probability with which an element of the input is dropped while training. */
  hiraDropout: number;
  /** How A starts, with B zero; false: both random. */
  initWeights: boolean | 'gaussian';
}

const options = z.strictObject({
  r: z.int().positive().default(32).describe('rank of the factor of the weights'),
  hira_dropout: z.number().min(0).lt(1).default(0).describe('HiRA: dropout of the input while training'),
  init_weights: initWeights,
  ...layerShape,
  exclude_modules: loraLayerShape.exclude_modules,
});

/**
 * HiRA (Huang et al., ICLR 2025): h = W₀x + (W₀ ∘ (B·A))x, the elements of W₀ scaled by a product of rank r, so that the
 * change may have W₀'s rank times r. A [r, in] is random and B [out, r] zero, so that training starts at the base.
 */
export const hira: Method<HiraConfig> = {
  name: 'hira',
  card: {
    title: 'HiRA',
    paper: 'OpenReview:TwJrTz9cRS',
    parameters: 'r·(in + out) a target',
    inference: 'a matrix of its size and a product with it a target',
    merges: true,
    peft: 'HIRA',
  },
  startsAtBase: true,
  // A change of B·A reaches W scaled by W's own small elements. docs/defaults.md has what was measured.
  learningRate: (rows) => 10 * lora.learningRate!(rows),
  options,

  parse(place, config) {
    const c = checkJson(place, snakeKeys(config), options);
    return {
      r: c.r,
      hiraDropout: c.hira_dropout,
      initWeights: ownInitWeights(place, 'hira', c.init_weights, ['gaussian']),
      ...layerChoice(place, c),
    };
  },

  resolve: (c, { sites }) => namedTargets(c, sites),

  select(c, model) {
    const targets = selectTargets(c, model.sites, ['linear', 'embedding']);
    return [
      ...targets.flatMap((site) => factorsOf(c, site)),
      ...extraTrainables({ ...c, bias: 'none' }, model, new Set(targets.map((site) => site.name))),
    ];
  },

  toPeft: (c) =>
    peftHiraConfig({
      r: c.r,
      hira_dropout: c.hiraDropout,
      init_weights: c.initWeights,
      ...layersToPeft(c),
      task_type: 'CAUSAL_LM',
    }),

  fromPeft(peft, sites) {
    if (peft.peft_type !== 'HIRA') return undefined;
    return {
      r: peft.r,
      hiraDropout: peft.hira_dropout,
      initWeights: peft.init_weights,
      targetModules: sites,
      ...given('modulesToSave', peft.modules_to_save?.length ? peft.modules_to_save : undefined),
    };
  },

  linear(c, { param, weight, dropped }, y) {
    const { x, scale } = dropped(c.hiraDropout);
    const update = matmulHadamard(x, weight(), param('hira_A'), param('hira_B'));
    return add(y, scale === 1 ? update : mul(update, scalar(scale)));
  },

  embedding: (_, context, y) =>
    add(y, mul(y, reshape(embeddingUpdate(context, 1, 'hira_embedding'), [...y.shape]))),

  merge(_, { site, param }, weight) {
    const factor =
      site.kind === 'embedding'
        ? matmul(param('hira_embedding_A'), param('hira_embedding_B'), { transA: true, transB: true })
        : matmul(param('hira_B'), param('hira_A'));
    return add(weight, mul(weight, factor));
  },
};

/** A [r, in] and B [out, r] of a site, which of an embedding have names of their own, and start the other way round. */
function factorsOf({ r, initWeights: init }: HiraConfig, site: Site): Trainable[] {
  const { in: width, out } = site;
  const zero =
    (size: number): Start =>
    () =>
      new Float32Array(size);
  const pair = (stem: string, a: Start, b: Start) => [
    siteTensor(site, `${stem}_A`, [r, width], a),
    siteTensor(site, `${stem}_B`, [out, r], b),
  ];
  const stem = site.kind === 'embedding' ? 'hira_embedding' : 'hira';
  if (init === false) return pair(stem, normalStart(r * width), normalStart(out * r));
  if (site.kind === 'embedding') return pair(stem, zero(r * width), normalStart(out * r));
  const a = init === true ? uniformStart(r * width, 1 / Math.sqrt(width)) : normalStart(r * width, 1 / r);
  return pair(stem, a, zero(out * r));
}
