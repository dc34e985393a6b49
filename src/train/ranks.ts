import { UserError } from '../base/errors.js';
import { singularValues, thinQr } from '../base/linalg/index.js';
import type { F32Tensor } from '../base/tensor.js';
import type { WorkOptions } from '../base/work.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import { createAdapter } from '../methods/adapter.js';
import { type LoraConfig, lora } from '../methods/lora.js';
import { selectTargets } from '../methods/targets.js';
import type { BaseModel } from '../models/base.js';
import type { Site } from '../models/model.js';
import { type Batch, batchesOf } from './data/batches.js';
import { nextToken } from './data/nextToken.js';
import type { ExampleSource } from './data/source.js';
import { gradientOf } from './loop.js';
import { accumulate } from './optimizer.js';
import { TrainStep } from './step.js';

/** What the choice of ranks may cost and how it is made. */
export interface RankOptions {
  /** Trainable parameters, A and B together; default: what the configuration's r costs on its targets. */
  budget?: number;
  /** The largest rank of one layer. */
  maxRank: number;
  /** Batches of training data that the gradient is averaged over, and their size. */
  batches: number;
  batchSize: number;
  microBatchTokens: number;
  seed: number;
}

/** A layer in the plan. */
export interface RankChoice {
  site: string;
  /** Its rank; 0 leaves the layer alone. */
  r: number;
  parameters: number;
  /** What its directions are worth, best first: singular values of the loss's gradient with respect to its matrix. */
  spectrum: readonly number[];
  /** What they are parts of. */
  whole: number;
}

/** Ranks for every target, and the configuration that says so. */
export interface RankPlan {
  config: LoraConfig;
  choices: RankChoice[];
  budget: number;
  parameters: number;
}

/**
 * Chooses the rank of each target within a budget of parameters, and which targets to leave alone.
 *
 * A LoRA of rank r can follow r directions of its layer's gradient at once (LoRA-GA, arXiv:2407.05000, section 3),
 * so the singular values of the gradient at the start say what each further rank is worth there. Adam gives every
 * direction a step of about the same size: along one of singular value σ the loss falls by σ a unit. The budget
 * goes, one direction after another, to the largest σ a parameter, in + out parameters a direction. α grows with r, so
 * that every layer keeps the scale α/r it was configured with.
 * Throws UserError where the budget buys nothing.
 */
export async function planRanks(
  runtime: Runtime,
  model: BaseModel,
  config: LoraConfig,
  examples: ExampleSource,
  options: RankOptions,
  session?: SessionOptions & WorkOptions,
): Promise<RankPlan> {
  const sites = selectTargets(config, model.sites);
  const cost = (site: Site) => site.in + site.out;
  const budget = options.budget ?? config.r * sites.reduce((sum, site) => sum + cost(site), 0);
  const spectra = await gradientSpectra(runtime, model, sites, examples, options, session);
  const ranks = allocateRanks(sites, spectra, budget);
  const choices = sites.map((site) => {
    const r = ranks.get(site.name) ?? 0;
    const spectrum = spectra.get(site.name)!;
    const whole = spectrum.reduce((sum, sigma) => sum + sigma, 0);
    return { site: site.name, r, parameters: r * cost(site), spectrum, whole };
  });
  return {
    config: withRanks(config, choices, (_, r) => (config.loraAlpha * r) / config.r),
    choices,
    budget,
    parameters: choices.reduce((sum, { parameters }) => sum + parameters, 0),
  };
}

/** The configuration of targets that have had their ranks chosen; those without a rank are no targets. */
export function withRanks(
  config: LoraConfig,
  choices: readonly Pick<RankChoice, 'site' | 'r'>[],
  alphaOf: (site: string, r: number) => number,
): LoraConfig {
  const kept = choices.filter(({ r }) => r > 0);
  const alphas = kept.map(({ site, r }) => [site, alphaOf(site, r)] as const);
  return {
    ...config,
    targetModules: kept.map(({ site }) => site),
    // They have had their say in what the targets are.
    excludeModules: undefined,
    layersToTransform: undefined,
    layersPattern: undefined,
    rankPattern: Object.fromEntries(kept.flatMap(({ site, r }) => (r === config.r ? [] : [[site, r]]))),
    alphaPattern: Object.fromEntries(alphas.filter(([, alpha]) => alpha !== config.loraAlpha)),
  };
}

/** The most that `budget` parameters buy: σ a parameter, largest first. Throws UserError where it buys nothing. */
export function allocateRanks(
  sites: readonly Pick<Site, 'name' | 'in' | 'out'>[],
  spectra: ReadonlyMap<string, readonly number[]>,
  budget: number,
): Map<string, number> {
  const directions = sites.flatMap((site) => {
    const cost = site.in + site.out;
    return spectra.get(site.name)!.map((sigma) => ({ site: site.name, cost, worth: sigma / cost }));
  });
  // Within a layer the spectrum falls, and the sort is stable: a layer's directions stay in order.
  directions.sort((a, b) => b.worth - a.worth);
  const ranks = new Map<string, number>();
  let left = budget;
  for (const { site, cost, worth } of directions) {
    if (cost > left || worth === 0) continue;
    left -= cost;
    ranks.set(site, (ranks.get(site) ?? 0) + 1);
  }
  if (ranks.size > 0) return ranks;
  const cheapest = Math.min(...sites.map((site) => site.in + site.out));
  throw new UserError(
    `a budget of ${budget} parameters buys no rank: one of the smallest target costs ${cheapest}`,
  );
}

/**
 * The largest singular values of the gradient G [out, in] of the mean loss with respect to each site's matrix, by the
 * randomized method of Halko et al. (arXiv:0909.4061) and without ever forming G: with B = 0 the gradient of a LoRA's
 * B is G·Aᵀ, a sketch of G's columns; with Q, their basis, for B and A = 0 the gradient of A is Qᵀ·G.
 */
export async function gradientSpectra(
  runtime: Runtime,
  model: BaseModel,
  sites: readonly Site[],
  examples: ExampleSource,
  { maxRank, batches, batchSize, microBatchTokens, seed }: RankOptions,
  { onProgress, signal, ...session }: SessionOptions & WorkOptions = {},
): Promise<Map<string, readonly number[]>> {
  const rank = (site: Site) => Math.min(maxRank, site.in, site.out);
  const sketch = lora.parse('sketch', {
    r: 1,
    targetModules: sites.map(({ name }) => name),
    rankPattern: Object.fromEntries(sites.map((site) => [site.name, rank(site)])),
    alphaPattern: Object.fromEntries(sites.map((site) => [site.name, rank(site)])),
    initLoraWeights: 'gaussian',
  });
  const adapter = await createAdapter(lora, sketch, model, seed);
  const step = await TrainStep.create(runtime, model, adapter, session);
  try {
    const order = { batchSize, seed, epoch: 0, microBatchTokens };
    const sample: Batch[] = [];
    for (const batch of batchesOf(examples, nextToken, order)) {
      if (sample.push(batch) === batches) break;
    }
    const total = 2 * sample.length;
    const told = (before: number) => (done: number) => {
      onProgress?.({ what: 'ranks', done: before + done, total, unit: 'gradients' });
      signal?.throwIfAborted();
    };
    const columns = await meanGradient(step, sample, seed, told(0));
    for (const site of sites) {
      const b = adapter.values.get(`${site.name}.lora_B`)!;
      b.data.set(thinQr(columns.get(`${site.name}.lora_B`)!.data, site.out, rank(site)).q);
      adapter.values.get(`${site.name}.lora_A`)!.data.fill(0);
    }
    const rows = await meanGradient(step, sample, seed, told(sample.length));
    return new Map(
      sites.map((site) => {
        const { data } = rows.get(`${site.name}.lora_A`)!;
        return [site.name, singularValues(data, rank(site), site.in)];
      }),
    );
  } finally {
    await step.close();
  }
}

async function meanGradient(
  step: TrainStep,
  batches: readonly Batch[],
  seed: number,
  onBatch: (done: number) => void,
): Promise<Map<string, F32Tensor>> {
  let total: Map<string, F32Tensor> | undefined;
  for (const [i, batch] of batches.entries()) {
    const { grads } = await gradientOf(step, batch, seed, i);
    if (total) accumulate(total, grads);
    else total = grads;
    onBatch(i + 1);
  }
  for (const { data } of total!.values()) for (let i = 0; i < data.length; i++) data[i] /= batches.length;
  return total!;
}
