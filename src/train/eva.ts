import { UserError } from '../base/errors.js';
import { firstRows, scaleRows, toFloat32 } from '../base/linalg/matrix.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import type { WorkOptions } from '../base/work.js';
import { alphaOf, rankOf } from '../formats/peftConfig.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import { type LoraConfig, toPeft } from '../methods/lora.js';
import { selectTargets } from '../methods/targets.js';
import type { BaseModel } from '../models/base.js';
import type { Site } from '../models/model.js';
import { checkRank } from '../models/rankLimit.js';
import { type Batch, batchesOf } from './data/batches.js';
import type { Example } from './data/encode.js';
import { nextToken } from './data/nextToken.js';
import type { ExampleSource } from './data/source.js';
import { sitesByInput } from './inputMoments.js';
import { type Directions, type InputGroup, principalInputs } from './principal.js';
import { type RankChoice, withRanks } from './ranks.js';

export interface EvaOptions {
  /** Batches of training data that are looked at, at most, and their size. */
  batches: number;
  batchSize: number;
  microBatchTokens: number;
  seed: number;
  /** Scatter matrices in memory at a time; of a model with more, parts are looked at one after the other. Default 1 GB. */
  partBytes?: number;
}

/** Where the targets start, and the configuration that gives each the rank that its inputs ask for. */
export interface EvaPlan {
  config: LoraConfig;
  /** A [r, in] of each target that keeps a rank, by the tensor's name. */
  starts: Map<string, F32Tensor>;
  /** Their spectra are parts of the variance of the layer's input. */
  choices: RankChoice[];
  parameters: number;
  /** Batches that were looked at, and how many of their tokens. */
  batches: number;
  tokens: number;
  /** Whether the directions had settled (tau) by then. */
  settled: boolean;
}

/**
 * EVA (Paischer et al., arXiv:2410.07170): A starts as the directions in which a layer's inputs vary most over the
 * training data, and ranks go, one after another, to the directions that explain the largest part of their layer's
 * variance: rho·r a layer at most, and all together as many as r gives. As in PEFT, inputs are centred, and batches are
 * looked at until the directions in use have settled. Unlike there, the covariance is that of all tokens seen
 * (PEFT's incremental PCA forgets after each batch what lies outside the leading directions), and no row is seen twice.
 * Throws UserError where a target has no input to look at, or the data are too few.
 */
export async function planEva(
  runtime: Runtime,
  model: BaseModel,
  config: LoraConfig,
  examples: ExampleSource,
  { batches: most, partBytes = 1e9, ...order }: EvaOptions,
  { onProgress, signal, ...session }: SessionOptions & WorkOptions = {},
): Promise<EvaPlan> {
  const { evaConfig } = config;
  if (!evaConfig) throw new Error('a configuration of init_lora_weights "eva" has an evaConfig');
  const peft = toPeft(config);
  const sites = targetsOf(config, model);
  const wanted = new Map(sites.map((site) => [site.name, wantedRank(site, rankOf(peft, site.name))]));
  const groups = sitesByInput(model, sites).map((entered): InputGroup => {
    const components = entered.map(({ name }) => roundEven(wanted.get(name)! * evaConfig.rho));
    return { sites: entered, components: Math.min(Math.max(...components), entered[0].in) };
  });

  const parts = inParts(groups, partBytes);
  const shown = inputExamples(examples, evaConfig.use_label_mask);
  const total = Math.min(most, Math.ceil(examples.length / order.batchSize));
  const found: Directions[] = [];
  const seen = { batches: 0, tokens: 0, settled: true };
  for (const [i, part] of parts.entries()) {
    const progress = (done: number) =>
      onProgress?.({ what: 'EVA', done: i * total + done, total: parts.length * total, unit: 'batches' });
    const result = await principalInputs(runtime, model, part, firstBatches(shown, total, order), {
      ...session,
      signal,
      tau: evaConfig.tau,
      inUse: (sofar) => {
        const ranks = redistribute(part, sofar, wanted);
        return part.map(({ sites }) => Math.max(...sites.map(({ name }) => ranks.get(name) ?? 0)));
      },
      onBatch: progress,
    });
    progress(total);
    checkTokens(part, result.tokens);
    found.push(...result.found);
    seen.batches = Math.max(seen.batches, result.batches);
    seen.tokens = Math.max(seen.tokens, result.tokens);
    seen.settled &&= result.settled;
  }

  const ranks = redistribute(groups, found, wanted);
  const spectra = new Map(
    groups.flatMap(({ sites }, i) => sites.map((site) => [site.name, found[i].ratios])),
  );
  const choices = sites.map((site): RankChoice => {
    const r = ranks.get(site.name) ?? 0;
    return {
      site: site.name,
      r,
      parameters: r * (site.in + site.out),
      spectrum: spectra.get(site.name)!,
      whole: 1,
    };
  });
  const alphas = new Map(
    choices.map(({ site, r }) => {
      const factor = evaConfig.adjust_scaling_factors ? r / wanted.get(site)! : 1;
      return [site, alphaOf(peft, site) * factor];
    }),
  );
  return {
    config: withRanks(config, choices, (site) => alphas.get(site)!),
    starts: startsOf(groups, found, ranks, evaConfig.whiten),
    choices,
    parameters: choices.reduce((sum, { parameters }) => sum + parameters, 0),
    ...seen,
  };
}

/**
 * The directions that explain most of their layer's variance, as many as the layers' own ranks together; a layer's rank is
 * how many are its own. Layers with one input share its directions; the first of them comes first where they tie.
 */
export function redistribute(
  groups: readonly InputGroup[],
  found: readonly Pick<Directions, 'ratios'>[],
  wanted: ReadonlyMap<string, number>,
): Map<string, number> {
  const directions = groups.flatMap(({ sites }, i) =>
    sites.flatMap((site, place) =>
      found[i].ratios
        .slice(0, Math.min(site.in, site.out))
        .map((ratio) => ({ site: site.name, ratio, later: place > 0 })),
    ),
  );
  const budget = groups.flatMap(({ sites }) => sites).reduce((sum, { name }) => sum + wanted.get(name)!, 0);
  const best = directions
    .filter(({ ratio }) => ratio > 0)
    .sort((a, b) => b.ratio - a.ratio || Number(a.later) - Number(b.later))
    .slice(0, budget);
  const ranks = new Map<string, number>();
  for (const { site } of best) ranks.set(site, (ranks.get(site) ?? 0) + 1);
  return ranks;
}

function targetsOf(config: LoraConfig, model: BaseModel): Site[] {
  const sites = selectTargets(config, model.sites, ['linear', 'embedding']);
  const embedding = sites.find(({ kind }) => kind === 'embedding');
  if (!embedding) return sites;
  throw new UserError(
    `init_lora_weights "eva" starts in what enters a linear layer, and ${embedding.name} is an embedding: leave it out`,
  );
}

function wantedRank(site: Site, r: number): number {
  checkRank('r', r, site);
  return r;
}

/** To the even one of two that are as near, as Python rounds. */
function roundEven(x: number): number {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x);
}

function checkTokens(groups: readonly InputGroup[], tokens: number): void {
  const greedy = groups.find(({ components }) => tokens <= components);
  if (!greedy) return;
  throw new UserError(
    `init_lora_weights "eva" looks for ${greedy.components} directions in what enters ${greedy.sites[0].name}, and the ` +
      `data have ${tokens} tokens for it: lower r or rho, give more rows, or set use_label_mask to false`,
  );
}

/** Groups whose scatter matrices, of `most` bytes, are in memory together. */
function inParts(groups: readonly InputGroup[], most: number): InputGroup[][] {
  const parts: InputGroup[][] = [];
  let left = 0;
  for (const group of groups) {
    const bytes = 4 * group.sites[0].in ** 2;
    if (parts.length === 0 || bytes > left) {
      parts.push([]);
      left = most;
    }
    parts[parts.length - 1].push(group);
    left -= bytes;
  }
  return parts;
}

/**
 * Examples of which each position counts that PEFT looks at: a token that is learned itself (or every one), while a batch's
 * targets are positions whose next token is. The token behind the last is only there to be dropped.
 */
function inputExamples(examples: ExampleSource, onlyLearned: boolean): ExampleSource {
  const shown = ({ ids, supervised, line }: Example): Example => {
    const shifted = new Uint8Array(ids.length + 1);
    if (onlyLearned) shifted.set(supervised, 1);
    else shifted.fill(1, 1);
    const longer = new Int32Array(ids.length + 1);
    longer.set(ids);
    return { ids: longer, supervised: shifted, line };
  };
  return {
    length: examples.length,
    at: (i) => {
      const example = examples.at(i);
      return example && shown(example);
    },
    *[Symbol.iterator]() {
      for (const example of examples) yield shown(example);
    },
  };
}

function* firstBatches(
  examples: ExampleSource,
  count: number,
  order: Pick<EvaOptions, 'batchSize' | 'microBatchTokens' | 'seed'>,
): Generator<Batch> {
  let given = 0;
  for (const batch of batchesOf(examples, nextToken, { ...order, epoch: 0 })) {
    yield batch;
    if (++given === count) return;
  }
}

function startsOf(
  groups: readonly InputGroup[],
  found: readonly Directions[],
  ranks: ReadonlyMap<string, number>,
  whiten: boolean,
): Map<string, F32Tensor> {
  const starts = new Map<string, F32Tensor>();
  for (const [i, { sites }] of groups.entries()) {
    const { values, vectors } = found[i].eigen;
    for (const site of sites) {
      const r = ranks.get(site.name) ?? 0;
      if (r === 0) continue;
      const rows = firstRows(vectors, r);
      // An eigenvalue of the scatter matrix is a squared singular value of the inputs.
      const a = whiten
        ? scaleRows(
            rows,
            values.map((value) => value ** -0.25),
          )
        : rows;
      starts.set(`${site.name}.lora_A`, f32(toFloat32(a), [r, site.in]));
    }
  }
  return starts;
}
