import * as z from 'zod';
import { type Dim, mulDims } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { type Matrix, matrix } from '../base/linalg/matrix.js';
import type { F32Tensor } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import {
  isPlainLora,
  type PeftLoraConfig,
  peftLoraConfig,
  rankOf,
  scalingOf,
} from '../formats/peftConfig.js';
import { type EvaConfig, evaDefaults, evaShape } from '../formats/peftEva.js';
import { add, gather, matmul, mul, reshape, scalar, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Site } from '../models/model.js';
import type { Outline } from '../models/shape.js';
import { type Extras, extraTrainables } from './extras.js';
import { snakeKeys } from './keys.js';
import {
  given,
  loraLayerChoice,
  loraLayerShape,
  loraLayersFromPeft,
  loraLayersToPeft,
} from './layerOptions.js';
import { embeddingStarts, type InitLoraWeights, linearStarts } from './loraInit.js';
import { type EmbeddingContext, type Method, siteTensor, type Trainable } from './method.js';
import { uniformStart } from './starts.js';
import { namedTargets, selectTargets, type TargetChoice } from './targets.js';

/** LoRA's options, named as in PEFT's LoraConfig. */
export interface LoraConfig extends TargetChoice, Extras {
  /** Rank of the update. */
  r: number;
  /** α: the update is scaled by α/r (α/√r with rsLoRA); 2r unless given. */
  loraAlpha: number;
  /** Probability with which an element of A's input is dropped while training. */
  loraDropout: number;
  /** Ranks and alphas of sites whose name ends with a pattern, where they differ from r and loraAlpha. */
  rankPattern: Record<string, number>;
  alphaPattern: Record<string, number>;
  /** Scale α/√r (Kalajdzievski, arXiv:2312.03732). */
  useRslora: boolean;
  /** How A and B start (loraInit.ts). */
  initLoraWeights: InitLoraWeights;
  /** Of "eva", and there only; in PEFT's words. */
  evaConfig?: EvaConfig;
  /** B has a bias [out], scaled as B·A is. */
  loraBias: boolean;
}

/** LoRA's options, by PEFT's names; its descendants extend them. */
export const loraOptions = z.strictObject({
  r: z
    .int()
    .positive()
    .default(8)
    .describe('rank of the update (VeRA: 256, MiSS: 64, HiRA: 32 if not given)'),
  lora_alpha: z.number().positive().optional().describe('α: the update is scaled by α/r (default: 2r)'),
  lora_dropout: z.number().min(0).lt(1).default(0).describe("dropout of A's input while training"),
  ...loraLayerShape,
  rank_pattern: z
    .record(z.string(), z.int().positive())
    .default({})
    .describe('ranks of layers whose name ends with a pattern, where they differ from r'),
  alpha_pattern: z.record(z.string(), z.number().positive()).default({}).describe('the same for α'),
  use_rslora: z.boolean().default(false).describe('scale by α/√r instead'),
  init_lora_weights: z
    .union([z.boolean(), z.enum(['gaussian', 'eva', 'orthogonal', 'mica'])], {
      error: ({ input }) => {
        const own = /^(pissa|olora|loftq)/.exec(String(input))?.[1];
        const expected = 'expected true, false, "gaussian", "eva", "orthogonal" or "mica"';
        return own ? `${JSON.stringify(input)} is a method of its own here, "${own}"; ${expected}` : expected;
      },
    })
    .default(true)
    .describe(
      "true: A as PEFT starts it, B zero; gaussian: A ~ N(0, 1/r²), B zero; eva: A in the layer's leading inputs, ranks " +
        "by what they explain, B zero; orthogonal: both random, B·A = 0; mica: B fixed in the base's least directions, " +
        'A zero; false: both random',
    ),
  eva_config: z
    .strictObject({
      ...evaShape,
      label_mask_value: z
        .literal(-100, 'label_mask_value: tokens that are not learned have no other label here, leave it out')
        .default(-100),
    })
    .optional()
    .describe(
      'with eva, as JSON: rho (2), tau (0.99), use_label_mask (true), whiten (false), adjust_scaling_factors (true)',
    ),
  lora_bias: z.boolean().default(false).describe('give B a bias'),
  fan_in_fan_out: z
    .boolean()
    .default(false)
    .describe(
      'as in PEFT; whatever it says, the model decides (true for GPT-2, whose matrices are stored as [in, out])',
    ),
});

/** Up to how many rows which learning rate: docs/defaults.md says why so. */
const FEWER_ROWS_RATES = [
  [1000, 1e-3],
  [10_000, 5e-4],
];

/** A configuration from its checked options. Throws UserError, prefixed with `place`, where two contradict. */
export function loraConfig(c: z.output<typeof loraOptions>, place = 'the LoRA configuration'): LoraConfig {
  const config: LoraConfig = {
    r: c.r,
    loraAlpha: c.lora_alpha ?? 2 * c.r,
    loraDropout: c.lora_dropout,
    ...loraLayerChoice(place, c),
    rankPattern: c.rank_pattern,
    alphaPattern: c.alpha_pattern,
    useRslora: c.use_rslora,
    initLoraWeights: c.init_lora_weights,
    ...given('evaConfig', evaOf(c, place)),
    loraBias: c.lora_bias,
  };
  if (config.loraBias && typeof config.initLoraWeights !== 'boolean') {
    throw new UserError(`${place}: lora_bias needs init_lora_weights true or false, as PEFT has it`);
  }
  return config;
}

/** EVA's options, of which there are some where it is asked for. */
function evaOf(c: z.output<typeof loraOptions>, place: string): EvaConfig | undefined {
  if (c.init_lora_weights === 'eva') return c.eva_config ?? evaDefaults;
  if (c.eva_config) throw new UserError(`${place}: eva_config is for init_lora_weights "eva"`);
  return undefined;
}

/** The same configuration in PEFT's words. */
export function toPeft(c: LoraConfig): PeftLoraConfig {
  return peftLoraConfig({
    r: c.r,
    lora_alpha: c.loraAlpha,
    lora_dropout: c.loraDropout,
    ...loraLayersToPeft(c),
    rank_pattern: c.rankPattern,
    alpha_pattern: c.alphaPattern,
    use_rslora: c.useRslora,
    init_lora_weights: c.initLoraWeights,
    ...given('eva_config', c.evaConfig),
    lora_bias: c.loraBias,
    task_type: 'CAUSAL_LM',
  });
}

/**
 * A configuration in PEFT's words, for the sites that were saved: they decide, not the patterns that named them or
 * left them out.
 */
export function fromPeft(peft: PeftLoraConfig, sites: readonly string[]): LoraConfig {
  const init = peft.init_lora_weights;
  return {
    r: peft.r,
    loraAlpha: peft.lora_alpha,
    loraDropout: peft.lora_dropout,
    ...loraLayersFromPeft(peft, sites),
    rankPattern: peft.rank_pattern,
    alphaPattern: peft.alpha_pattern,
    useRslora: peft.use_rslora,
    initLoraWeights: init,
    ...given('evaConfig', init === 'eva' ? (peft.eva_config ?? evaDefaults) : undefined),
    loraBias: peft.lora_bias,
  };
}

/**
 * The tensors of the targets and what trains beside them. Throws UserError where the configuration does not fit the
 * model. `tensorsOf` gives a site's.
 */
export function selectLora(
  c: LoraConfig,
  model: Pick<Outline, 'sites' | 'parameters'>,
  tensorsOf: (c: LoraConfig, site: Site) => Trainable[] = loraMatrices,
): Trainable[] {
  const targets = selectTargets(c, model.sites, ['linear', 'embedding']);
  const names = new Set(targets.map((s) => s.name));
  return [...targets.flatMap((site) => tensorsOf(c, site)), ...extraTrainables(c, model, names)];
}

/**
 * A [r, in] and B [out, r] of a site, and the bias of B where there is one; of an embedding, whose A is [r, vocabulary],
 * they have names of their own. r may be larger than the matrix has rows or columns, as in PEFT; sums of several are such.
 */
export function loraMatrices(c: LoraConfig, site: Site): Trainable[] {
  const r = rankOf(toPeft(c), site.name);
  const { out } = site;
  const embedding = site.kind === 'embedding';
  if (embedding && c.loraBias) throw new UserError(`lora_bias is not for embeddings, as ${site.name} is one`);
  const { a, b } = (embedding ? embeddingStarts : linearStarts)(c.initLoraWeights, site, r);
  const stem = embedding ? 'lora_embedding' : 'lora';
  const bTensor = siteTensor(site, `${stem}_B`, [out, r], b);
  return [
    siteTensor(site, `${stem}_A`, [r, site.in], a),
    c.initLoraWeights === 'mica' ? { ...bTensor, requiresGrad: false } : bTensor,
    ...(c.loraBias ? [siteTensor(site, 'lora_bias', [out], biasStart(c, r, out))] : []),
  ];
}

/** Zero, or with random matrices as PyTorch starts a bias. */
function biasStart(c: LoraConfig, r: number, out: number): NonNullable<Trainable['init']> {
  return (rng) => {
    if (c.initLoraWeights !== false) return new Float32Array(out);
    return uniformStart(out, 1 / Math.sqrt(r))(rng);
  };
}

/** s·B·A of an embedding's tokens, [tokens, out] for ids of any shape; `stem` begins the names of A and B. */
export function embeddingUpdate(
  { ids, param }: Pick<EmbeddingContext, 'ids' | 'param'>,
  s: number,
  stem = 'lora_embedding',
): Tensor {
  const a = gather(transpose(param(`${stem}_A`), [1, 0]), ids);
  const r = a.shape[a.rank - 1];
  const tokens = ids.shape.reduce<Dim>((n, dim) => mulDims(n, dim), 1);
  return matmul(reshape(a, [tokens, r]), param(`${stem}_B`), { transB: true, alpha: s });
}

/** What B·A is multiplied with at a site: α/r, or α/√r with rsLoRA. */
export function scaleOf(c: LoraConfig, site: Site): number {
  return scalingOf(toPeft(c), site.name);
}

/** A tensor with two dimensions as a matrix, times a factor. */
export function scaled({ dims: [rows, columns], data }: F32Tensor, factor = 1): Matrix {
  const result = matrix(rows, columns, data);
  if (factor !== 1) for (let i = 0; i < data.length; i++) result.data[i] *= factor;
  return result;
}

/**
 * LoRA (Hu et al., arXiv:2106.09685, eq. 3): h = W₀x + (α/r)·B·A·x with W₀ frozen, A [r, in] random and
 * B [out, r] zero, so that training starts exactly at the base.
 */
export const lora: Method<LoraConfig> = {
  name: 'lora',
  card: {
    title: 'LoRA',
    paper: 'arXiv:2106.09685',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank r a target',
    merges: true,
    peft: 'LORA',
  },
  startsAtBase: true,
  learningRate: (rows) => FEWER_ROWS_RATES.find(([most]) => rows <= most)?.[1] ?? 2e-4,
  options: loraOptions,
  parse(place, config) {
    const options = snakeKeys(config);
    if (typeof options === 'object' && options !== null && 'use_dora' in options) {
      throw new UserError(`${place}: use_dora is a method of its own here, "dora"; leave the key out`);
    }
    return loraConfig(checkJson(place, options, loraOptions), place);
  },
  resolve: (c, { sites }) => namedTargets(c, sites),
  select: (c, model) => selectLora(c, model),
  toPeft,
  fromPeft: (peft, sites) => (isPlainLora(peft) ? fromPeft(peft, sites) : undefined),

  linear(c, { site, param, dropped }, y) {
    const { x, scale } = dropped(c.loraDropout);
    const s = scaleOf(c, site);
    const u = matmul(x, param('lora_A'), { transB: true });
    const adapted = add(y, matmul(u, param('lora_B'), { transB: true, alpha: s * scale }));
    return c.loraBias ? add(adapted, mul(param('lora_bias'), scalar(s))) : adapted;
  },

  embedding: (c, context, y) =>
    add(y, reshape(embeddingUpdate(context, scaleOf(c, context.site)), [...y.shape])),

  merge(c, { site, param }, weight) {
    const alpha = scaleOf(c, site);
    if (site.kind === 'linear') return add(weight, matmul(param('lora_B'), param('lora_A'), { alpha }));
    const transposed = { transA: true, transB: true, alpha };
    return add(weight, matmul(param('lora_embedding_A'), param('lora_embedding_B'), transposed));
  },

  factors:
    (c) =>
    ({ site, value }) => {
      const stem = site.kind === 'embedding' ? 'lora_embedding' : 'lora';
      return { b: scaled(value(`${stem}_B`), scaleOf(c, site)), a: scaled(value(`${stem}_A`)) };
    },

  mergeBias: (c) =>
    c.loraBias
      ? ({ site, param }, bias) => add(bias, mul(param('lora_bias'), scalar(scaleOf(c, site))))
      : undefined,
};
