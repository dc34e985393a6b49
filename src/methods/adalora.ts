import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { matrix, scaleRows } from '../base/linalg/matrix.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import { adaloraRank, adaloraScale } from '../formats/peftAdalora.js';
import { peftAdaloraConfig } from '../formats/peftConfig.js';
import { add, constant, matmul, mul, reshape, scalar, sqrt, sub, sum } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Site } from '../models/model.js';
import { checkRank } from '../models/rankLimit.js';
import { allocate, maskTo, rankTable, siteOfRanks, updateImportance } from './adaloraRanks.js';
import { type Extras, extraTrainables } from './extras.js';
import { snakeKeys } from './keys.js';
import { loraLayerChoice, loraLayerShape, loraLayersFromPeft, loraLayersToPeft } from './layerOptions.js';
import { loraOptions, scaled } from './lora.js';
import { type Method, type SiteContext, siteTensor, type Trainable } from './method.js';
import { normalStart } from './starts.js';
import { namedTargets, selectTargets, type TargetChoice } from './targets.js';

/** AdaLoRA's options, named as in PEFT's AdaLoraConfig. */
export interface AdaloraConfig extends TargetChoice, Extras {
  /** Rank of every target at first, and the average at the end. */
  initR: number;
  targetR: number;
  /** Steps before the first pruning, steps at the end with the ranks as they are, and steps from pruning to pruning. */
  tinit: number;
  tfinal: number;
  deltaT: number;
  /** Steps that the schedule is for; absent: all of the run's. */
  totalStep?: number;
  /** Decay of the averages of sensitivity and of its uncertainty. */
  beta1: number;
  beta2: number;
  orthRegWeight: number;
  loraAlpha: number;
  loraDropout: number;
  /** What was pruned when the adapter was saved, as in PEFT's configuration. */
  rankPattern?: Record<string, boolean[]>;
}

const decay = z.number().gt(0).lt(1).default(0.85);

const options = z.strictObject({
  init_r: z.int().positive().default(12).describe('AdaLoRA: rank of every layer at first'),
  target_r: z.int().positive().default(8).describe('AdaLoRA: average rank at the end'),
  tinit: z.int().nonnegative().default(0).describe('AdaLoRA: steps before ranks are pruned'),
  tfinal: z.int().nonnegative().default(0).describe('AdaLoRA: steps at the end with the ranks as they are'),
  delta_t: z.int().positive().default(1).describe('AdaLoRA: steps from one pruning to the next'),
  total_step: z
    .int()
    .positive()
    .optional()
    .describe("AdaLoRA: steps that the schedule is for (default: the run's)"),
  beta1: decay.describe('AdaLoRA: decay of the average of sensitivity'),
  beta2: decay.describe('AdaLoRA: decay of the average of its uncertainty'),
  orth_reg_weight: z
    .number()
    .nonnegative()
    .default(0.5)
    .describe('AdaLoRA: weight of the penalty that keeps P and Q orthonormal'),
  lora_alpha: loraOptions.shape.lora_alpha,
  lora_dropout: loraOptions.shape.lora_dropout,
  ...loraLayerShape,
});

/**
 * AdaLoRA (Zhang et al., arXiv:2303.10512): h = W₀x + s·P·Λ·Q·x with Λ diagonal and zero at first, so that training starts
 * at the base. A penalty keeps P and Q near orthonormal; the least important triplets of all layers together are pruned
 * (their λ set to zero, from where they may come back until the last steps), down to a budget that falls with the cube
 * of the time left. P is PEFT's lora_B, Λ its lora_E, Q its lora_A.
 */
export const adalora: Method<AdaloraConfig> = {
  name: 'adalora',
  card: {
    title: 'AdaLoRA',
    paper: 'arXiv:2303.10512',
    parameters: 'r·(in + out + 1) a target, r falling to its share of the budget',
    inference: 'two products of rank r a target',
    merges: true,
    peft: 'ADALORA',
  },
  startsAtBase: true,
  options,

  parse(place, config) {
    const c = checkJson(place, snakeKeys(config), options);
    if (c.target_r > c.init_r) {
      throw new UserError(
        `${place}: target_r ${c.target_r} is larger than init_r ${c.init_r}: ranks only fall`,
      );
    }
    return {
      initR: c.init_r,
      targetR: c.target_r,
      tinit: c.tinit,
      tfinal: c.tfinal,
      deltaT: c.delta_t,
      ...(c.total_step !== undefined && { totalStep: c.total_step }),
      beta1: c.beta1,
      beta2: c.beta2,
      orthRegWeight: c.orth_reg_weight,
      loraAlpha: c.lora_alpha ?? 2 * c.init_r,
      loraDropout: c.lora_dropout,
      ...loraLayerChoice(place, c),
    };
  },

  resolve: (c, { sites }) => namedTargets(c, sites),

  select(c, model) {
    const targets = selectTargets(c, model.sites);
    const triplets = targets.flatMap((site): Trainable[] => {
      const r = rankOf(c, site);
      checkRank('init_r', r, site);
      const random = (size: number) => normalStart(size, 0.02);
      return [
        siteTensor(site, 'adalora_A', [r, site.in], random(r * site.in)),
        siteTensor(site, 'adalora_E', [r, 1], () => new Float32Array(r)),
        siteTensor(site, 'adalora_B', [site.out, r], random(site.out * r)),
      ];
    });
    return [...triplets, ...extraTrainables(c, model, new Set(targets.map((site) => site.name)))];
  },

  toPeft(c, trained) {
    const ranks = trained && ranksLeft(trained.values);
    const totalStep = c.totalStep ?? Number(trained?.state.values.steps ?? c.tinit + c.tfinal + 1);
    return peftAdaloraConfig({
      init_r: c.initR,
      target_r: c.targetR,
      tinit: c.tinit,
      tfinal: c.tfinal,
      deltaT: c.deltaT,
      beta1: c.beta1,
      beta2: c.beta2,
      orth_reg_weight: c.orthRegWeight,
      total_step: totalStep,
      lora_alpha: c.loraAlpha,
      lora_dropout: c.loraDropout,
      ...loraLayersToPeft(c),
      rank_pattern: ranks
        ? Object.fromEntries([...ranks].map(([site, left]) => [`${site}.lora_E`, left]))
        : (c.rankPattern ?? null),
      task_type: 'CAUSAL_LM',
    });
  },

  savedTensors(_, values) {
    const ranks = ranksLeft(values);
    if (!ranks) return values;
    const saved = new Map(values);
    for (const [site, left] of ranks) {
      for (const part of ['A', 'E', 'B']) {
        const name = `${site}.adalora_${part}`;
        saved.set(name, kept(values.get(name)!, part === 'B' ? 1 : 0, left));
      }
    }
    return saved;
  },

  fromPeft(peft, sites) {
    if (peft.peft_type !== 'ADALORA') return undefined;
    return {
      initR: peft.init_r,
      targetR: peft.target_r,
      tinit: peft.tinit,
      tfinal: peft.tfinal,
      deltaT: peft.deltaT,
      ...(peft.total_step !== null && { totalStep: peft.total_step }),
      beta1: peft.beta1,
      beta2: peft.beta2,
      orthRegWeight: peft.orth_reg_weight,
      loraAlpha: peft.lora_alpha,
      loraDropout: peft.lora_dropout,
      ...loraLayersFromPeft(peft, sites),
      ...(peft.rank_pattern && { rankPattern: peft.rank_pattern }),
    };
  },

  summary(_, values) {
    const ranks = ranksLeft(values);
    return ranks && rankTable(new Map([...ranks].map(([site, left]) => [site, left.filter(Boolean).length])));
  },

  linear(c, { site, param, dropped }, y) {
    const r = rankOf(c, site);
    if (r === 0) return y;
    const { x, scale } = dropped(c.loraDropout);
    const u = mul(matmul(x, param('adalora_A'), { transB: true }), reshape(param('adalora_E'), [r]));
    return add(y, matmul(u, param('adalora_B'), { transB: true, alpha: scaleOf(c) * scale }));
  },

  merge(c, { site, param }: Pick<SiteContext, 'site' | 'param'>, weight) {
    if (rankOf(c, site) === 0) return weight;
    const scaled = mul(param('adalora_A'), param('adalora_E'));
    return add(weight, matmul(param('adalora_B'), scaled, { alpha: scaleOf(c) }));
  },

  factors:
    (c) =>
    ({ site, value }) => {
      if (rankOf(c, site) === 0) return { b: matrix(site.out, 0), a: matrix(0, site.in) };
      const lambda = value('adalora_E').data;
      const left = Array.from(lambda, (x) => x !== 0);
      const b = scaled(kept(value('adalora_B'), 1, left), scaleOf(c));
      return { b, a: scaleRows(scaled(kept(value('adalora_A'), 0, left)), lambda.filter(Boolean)) };
    },

  penalty(c, { names, param }) {
    const distances = names.flatMap((name): Tensor[] => {
      const part = /\.adalora_([AB])$/.exec(name)?.[1];
      if (!part || rankOf(c, { name: name.slice(0, -'.adalora_A'.length) }) === 0) return [];
      const p = param(name);
      const gram = part === 'A' ? matmul(p, p, { transB: true }) : matmul(p, p, { transA: true });
      const difference = sub(gram, constant(identity(Number(p.shape[part === 'A' ? 0 : 1]))));
      return [sqrt(sum(mul(difference, difference), [0, 1]))];
    });
    const total = distances.reduce((a, b) => add(a, b));
    return mul(total, scalar(c.orthRegWeight / distances.length));
  },

  onStart(c, { steps }) {
    const total = c.totalStep ?? steps;
    if (c.tinit < total - c.tfinal) return;
    throw new UserError(
      `adalora prunes between the first ${c.tinit} (tinit) and the last ${c.tfinal} (tfinal) steps, and the run has ` +
        `${total}: lower tinit or tfinal, or train longer`,
    );
  },

  onStep(c, { step, steps, values, grads, clip, state }) {
    state.values.steps = c.totalStep ?? steps;
    const end = Number(state.values.steps) - c.tfinal;
    if (step < end) updateImportance(c, values, grads, clip, state);
    if (step <= end) {
      const left = allocate(c, { step, end }, values, state);
      if (left) state.values.ranks = left;
    }
    if (step === end) state.tensors.clear();
    if (step >= end && state.values.ranks) maskTo(state.values.ranks as Record<string, boolean[]>, values);
  },
};

function rankOf(c: AdaloraConfig, site: Pick<Site, 'name'>): number {
  return adaloraRank({ init_r: c.initR, rank_pattern: c.rankPattern ?? null }, site.name);
}

function scaleOf(c: AdaloraConfig): number {
  return adaloraScale({ lora_alpha: c.loraAlpha, init_r: c.initR });
}

/**
 * Which ranks of each site are not pruned: those whose λ is not zero. undefined where none is, or every λ is zero because
 * nothing was learned yet.
 */
export function ranksLeft(values: ReadonlyMap<string, F32Tensor>): Map<string, boolean[]> | undefined {
  const ranks = new Map<string, boolean[]>();
  for (const [name, { data }] of values) {
    const site = siteOfRanks(name);
    if (site !== undefined)
      ranks.set(
        site,
        Array.from(data, (lambda) => lambda !== 0),
      );
  }
  const all = [...ranks.values()].flat();
  return all.includes(true) && all.includes(false) ? ranks : undefined;
}

/** The rows (axis 0) or columns (axis 1) of a matrix that are left. */
function kept({ dims: [rows, columns], data }: F32Tensor, axis: 0 | 1, left: readonly boolean[]): F32Tensor {
  const count = left.filter(Boolean).length;
  const isLeft = (i: number) => left[axis === 0 ? Math.floor(i / columns) : i % columns];
  return f32(
    data.filter((_, i) => isLeft(i)),
    axis === 0 ? [count, columns] : [rows, count],
  );
}

function identity(n: number): F32Tensor {
  const data = new Float32Array(n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = 1;
  return f32(data, [n, n]);
}
