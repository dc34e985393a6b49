/** Training runs: a run folder of `lowrank train` each, and its held-out loss. */
import { join } from 'node:path';
import * as z from 'zod';
import { curvesOf, trainLossAt } from '../../api/curves.js';
import { flattenJob, type Job, jobSchema, resolveJob } from '../../api/job.js';
import { planJobRanks, startJobEva } from '../../api/jobPlans.js';
import { METRICS } from '../../api/metric.js';
import type { Model } from '../../api/model.js';
import { openJob, runJob, withMethodOf } from '../../api/run.js';
import { RUN_FILE, RunFolder, readMetrics, readRun } from '../../api/runFolder.js';
import type { WorkOptions } from '../../base/work.js';
import { exists } from '../../formats/io/node.js';
import { methodNamed } from '../../methods/index.js';
import { filledByRows, stepsOf } from '../../train/byRows.js';
import type { PlannedRun, RunResult } from '../run.js';
import { rowSourcesOf, subsetOf, tooFewRows } from '../sources.js';
import { type RunKind, seconds } from './kind.js';

/** Options of training that a lab has no use for: it says itself where a run goes. */
const { output: _output, ...jobShape } = jobSchema.shape as z.ZodRawShape;

/** Every option of a run of training, and how many of the rows it sees. */
export const trainRunSchema = z.strictObject({
  ...jobShape,
  rows: z
    .union([z.int().positive(), z.literal('all')], { error: () => 'expected a number of rows, or all' })
    .optional(),
}) as z.ZodObject;

const resultSchema = z.object({
  steps: z.number(),
  seconds: z.number(),
  tokens: z.number(),
  heldOut: z
    .object({
      before: z.number(),
      after: z.number(),
      step: z.number(),
      metrics: z.object({ after: z.record(z.string(), z.number()) }).optional(),
    })
    .optional(),
  warnings: z.array(z.object({ kind: z.string(), message: z.string() })).default([]),
});
const parametersSchema = z.object({ total: z.number(), trainable: z.number() });

export const train: RunKind = {
  options: trainRunSchema,
  metrics: {
    heldOut: { title: 'held-out loss', digits: 4 },
    heldOutBefore: { title: 'held-out loss before', digits: 4 },
    ...METRICS,
    trainLoss: { title: 'training loss', digits: 4 },
    trainable: { title: 'parameters trained' },
    share: { title: 'share of the model, %', digits: 3 },
    r: { title: 'r' },
    steps: { title: 'steps' },
    tokens: { title: 'tokens' },
    seconds,
  },

  async resolve(options, sources) {
    const { rows: wanted, ...rows } = await rowSourcesOf(options);
    const job = jobOf(options, { ...rows, output: 'output' });
    const count = await sources.rowsOf(rows.data);
    if (wanted !== undefined && wanted > count) throw tooFewRows(rows.data, count, wanted);
    // Whether memory is asked about first does not change what comes out.
    const {
      output: _,
      ignoreMemory: _ignored,
      data,
      evalData,
      model,
      ...flat
    } = flattenJob(job) as Record<string, unknown>;
    const identity = {
      ...flat,
      rows: wanted ?? 'all',
      model: await sources.modelIdentity(job.model),
      data: await sources.dataIdentity(job.data),
      ...(job.evalData && { evalData: await sources.dataIdentity(job.evalData) }),
    };
    return { identity, facts: await factsOf(job, wanted ?? count, sources) };
  },

  async memory(options, sources) {
    // Of some of the rows the longest is no longer than of all.
    const { rows: _, ...rows } = await rowSourcesOf(options);
    return sources.memoryOf(jobOf(options, { ...rows, output: 'output' }));
  },

  async execute(run, place) {
    const { folder, signal } = place;
    const before = (await exists(join(folder, RUN_FILE))) ? await readRun(folder) : undefined;
    if (before?.status === 'complete') return resultOf(folder);
    const { rows: wanted, ...rows } = await rowSourcesOf(run.options);
    const data =
      wanted === undefined ? rows.data : [await subsetOf(rows.data, wanted, join(place.lab, 'rows'))];
    const given = { ...rows, data, output: folder, threads: run.options.threads ?? place.threads };
    const job = jobOf(run.options, given);
    const claimed = await RunFolder.claim(folder, { resume: before !== undefined });
    try {
      // Ranks that were chosen are in the record of a run that began.
      const known = before
        ? resolveJob({ ...before.options, ...present({ ...given, model: job.model }) })
        : job;
      const model = await openJob(known, { signal });
      try {
        const ready = withMethodOf(model, await prepared(model, known, { signal }));
        const command = before?.command ?? `lowrank lab: ${run.name}`;
        for await (const event of runJob(model, ready, claimed, {
          resume: before !== undefined,
          command,
          signal,
        })) {
          if (event.kind === 'step')
            place.onProgress({ done: event.step, total: event.steps, loss: event.loss });
          if (event.kind === 'stopped') signal.throwIfAborted();
        }
      } finally {
        await model.close();
      }
    } finally {
      await claimed.release();
    }
    return resultOf(folder);
  },
};

function jobOf(options: PlannedRun['options'], given: Record<string, unknown>): Job {
  const { rows: _rows, data: _data, evalData: _evalData, evalSplit: _evalSplit, ...others } = options;
  return resolveJob(present({ ...others, ...given }));
}

/** Without what is there and undefined: it would hide a default. */
function present(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** The job with what it looks for in its data, and its method on the model. */
async function prepared(model: Model, job: Job, work: WorkOptions): Promise<Job> {
  if (job.eva) {
    await startJobEva(model, job, work);
    return job;
  }
  if (!job.ranks) return job;
  const { job: chosen } = await planJobRanks(model, job, work);
  await model.addMethod(chosen.method, chosen.methodOptions, { seed: job.train.seed, ...work });
  return chosen;
}

async function factsOf(
  job: Job,
  rows: number,
  sources: Parameters<RunKind['resolve']>[1],
): Promise<Record<string, number>> {
  const seen = job.evalSplit === undefined ? rows : rows - heldOutOf(job.evalSplit, rows);
  const steps = stepsOf(seen, filledByRows(job.train, seen, methodNamed(job.method)));
  // What an adapter or the data decide is not known before, the size of a head among it.
  if (job.adapter !== undefined || job.ranks || job.eva || job.task) return { steps };
  const trainable = await sources.trainableOf(job.model, job.method, job.methodOptions);
  return { steps, trainable };
}

function heldOutOf(split: number, rows: number): number {
  return split < 1 ? Math.round(split * rows) : split;
}

/** What a complete run's folder says. */
async function resultOf(folder: string): Promise<RunResult> {
  const record = await readRun(folder);
  const { r } = record.options;
  const { steps, seconds, tokens, heldOut, warnings } = resultSchema.parse(record.result);
  const { total, trainable } = parametersSchema.parse(record.model);
  const curves = curvesOf(await readMetrics(folder));
  return {
    metrics: {
      ...(heldOut && {
        heldOut: heldOut.after,
        heldOutBefore: heldOut.before,
        ...heldOut.metrics?.after,
      }),
      ...withTrainLoss(trainLossAt(curves, steps)),
      trainable,
      share: (100 * trainable) / total,
      ...(typeof r === 'number' && { r }),
      steps,
      tokens,
      seconds,
    },
    detail: { heldOut: curves.heldOut, warnings },
  };
}

function withTrainLoss(trainLoss: number | undefined): Record<string, number> {
  return trainLoss === undefined ? {} : { trainLoss };
}
