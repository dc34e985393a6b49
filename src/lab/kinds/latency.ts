/** What a forward pass takes, of a method beside the base alone: both measured in turn, so that other work on the machine meets both. */
import * as z from 'zod';
import { engineShape, jobSchema, methodShape } from '../../api/job.js';
import { resolveModelFolder } from '../../api/locate.js';
import { UserError } from '../../base/errors.js';
import { camelCase } from '../../base/names.js';
import { Rng } from '../../base/rng.js';
import { NodeRuntime } from '../../graph/runtime/node.js';
import type { SessionOptions } from '../../graph/runtime/session.js';
import { type Adapter, createAdapter } from '../../methods/adapter.js';
import { trainableCount } from '../../methods/counts.js';
import { methodNamed } from '../../methods/index.js';
import { openModel } from '../../models/base.js';
import type { MicroBatch } from '../../train/data/batches.js';
import { LossStep } from '../../train/step.js';
import type { RunResult } from '../run.js';
import { type RunKind, seconds } from './kind.js';

const { model, method, device, threads, seed } = jobSchema.shape as z.ZodRawShape;
const methodOptions = Object.fromEntries(
  Object.keys(methodShape).map((name) => [name, (jobSchema.shape as z.ZodRawShape)[name]]),
);

/** The most tokens of a pass: what it computes has to fit into memory. */
const MOST_TOKENS = 1 << 17;

const ownShape = {
  merged: z.boolean().optional().describe("the method's change is in the model's own matrices"),
  batch: z.int().positive().optional().describe('sequences at once'),
  length: z.int().min(2).optional().describe('tokens of each'),
  rounds: z.int().positive().max(1000).optional().describe('how often each is measured'),
};
const settingsSchema = z.object({
  model: z.string({ error: () => 'the option "model" is missing' }),
  method: z.string().optional(),
  device: engineShape.device,
  threads: z.int().positive().optional(),
  seed: z.int().default(0),
  merged: z.boolean().default(false),
  batch: z.int().default(1),
  length: z.int().default(128),
  rounds: z.int().default(9),
});
type Settings = z.output<typeof settingsSchema> & {
  /** The method's configuration, parsed; undefined where there is none. */
  config: unknown;
};

export const latency: RunKind = {
  options: z.strictObject({
    model,
    method,
    device,
    threads,
    seed,
    ...ownShape,
    ...methodOptions,
  }) as z.ZodObject,
  metrics: {
    ratio: { title: 'time, of the base', digits: 3 },
    low: { title: 'lower quartile', digits: 3 },
    high: { title: 'upper quartile', digits: 3 },
    milliseconds: { title: 'milliseconds', digits: 1 },
    baseMilliseconds: { title: 'milliseconds of the base', digits: 1 },
    trainable: { title: 'parameters of the method' },
    seconds,
  },

  async resolve(options, sources) {
    const settings = settingsOf(options);
    const { model, method, config, batch, length, merged } = settings;
    if (batch * length > MOST_TOKENS)
      throw new UserError(
        `a pass of ${batch} x ${length} tokens is more than the ${MOST_TOKENS} that are tried`,
      );
    if (merged && !(method && methodNamed(method).merge))
      throw new UserError(`"merged" is for a method that merges, not for ${method ?? 'the base alone'}`);
    const chosen = method === undefined ? undefined : methodNamed(method);
    const before = (chosen?.virtualTokens?.(config) ?? 0) + (chosen?.prefix?.length(config) ?? 0);
    const { maxPositions } = await sources.configOf(model);
    if (length + before > maxPositions) {
      const behind = before > 0 ? ` behind the method's ${before}` : '';
      throw new UserError(`${length} tokens${behind} are more than the model's ${maxPositions} positions`);
    }
    const identity = { ...settings, model: await sources.modelIdentity(model) };
    const trainable = method === undefined ? 0 : await sources.trainableOf(model, method, config);
    return { identity, facts: { trainable } };
  },

  async execute(run, { threads, onProgress, signal }) {
    const settings = settingsOf(run.options);
    const { method, config, device, batch, length, rounds, merged } = settings;
    const base = await openModel(await resolveModelFolder(settings.model));
    const adapter =
      method === undefined
        ? undefined
        : await createAdapter(methodNamed(method), config, base, settings.seed);
    const runtime = new NodeRuntime();
    const session: SessionOptions = { device, threads: settings.threads ?? threads };
    try {
      const plain = await LossStep.create(runtime, base, undefined, session);
      const changed = await LossStep.create(runtime, base, adapter, { ...session, merged });
      const pass = passOf(batch, length, base.config.vocabSize);
      const times: { base: number; method: number }[] = [];
      // The first round warms up: memory is allocated, and pages of the weights come in.
      for (let round = 0; round <= rounds; round++) {
        signal.throwIfAborted();
        const timed = { base: 0, method: 0 };
        // Which one is first alternates.
        for (const which of round % 2 === 0 ? (['base', 'method'] as const) : (['method', 'base'] as const)) {
          const started = performance.now();
          await (which === 'base' ? plain : changed).run(pass);
          timed[which] = performance.now() - started;
        }
        if (round > 0) times.push(timed);
        onProgress({ done: round, total: rounds });
      }
      return resultOf(times, adapter);
    } finally {
      await runtime.close();
    }
  },
};

function settingsOf(options: Readonly<Record<string, unknown>>): Settings {
  const parsed = settingsSchema.safeParse(options);
  if (!parsed.success) throw new UserError(parsed.error.issues[0].message);
  const { method } = parsed.data;
  const given = Object.entries(options).filter(([name]) => Object.hasOwn(methodShape, name));
  if (method === undefined) {
    if (given.length > 0)
      throw new UserError(`the option "${given[0][0]}" is for a method, and none is named`);
    return { ...parsed.data, config: undefined };
  }
  const own = new Set(Object.keys(methodNamed(method).options.shape).map(camelCase));
  const foreign = given.find(([name]) => !own.has(name));
  if (foreign) throw new UserError(`the option "${foreign[0]}" is not for method ${method}`);
  const config = methodNamed(method).parse(`${method} configuration`, Object.fromEntries(given));
  return { ...parsed.data, config };
}

/** Sequences of random tokens, of which the last one's logits are wanted. */
function passOf(rows: number, length: number, vocabulary: number): MicroBatch {
  const rng = new Rng(0, 'latency');
  return {
    rows,
    length,
    ids: Int32Array.from({ length: rows * length }, () => rng.below(vocabulary)),
    lengths: new Int32Array(rows).fill(length),
    targetRows: Int32Array.from({ length: rows }, (_, row) => (row + 1) * length - 1),
    targetIds: new Int32Array(rows),
  };
}

function resultOf(
  times: readonly { base: number; method: number }[],
  adapter: Adapter | undefined,
): RunResult {
  const ratios = times.map(({ base, method }) => method / base);
  return {
    metrics: {
      ratio: quantile(ratios, 0.5),
      low: quantile(ratios, 0.25),
      high: quantile(ratios, 0.75),
      milliseconds: quantile(
        times.map(({ method }) => method),
        0.5,
      ),
      baseMilliseconds: quantile(
        times.map(({ base }) => base),
        0.5,
      ),
      trainable: adapter ? trainableCount(adapter.trainables) : 0,
    },
    detail: { times },
  };
}

/** Between the two values beside it, as NumPy's. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (at - Math.floor(at)) * (high - low);
}
