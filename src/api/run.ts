import type { Finding } from '../analysis/verdict.js';
import type { WorkOptions } from '../base/work.js';
import type { MethodName } from '../methods/index.js';
import type { EncodeStats } from '../train/data/encode.js';
import type { TrainEvent } from '../train/loop.js';
import { refuseMissing } from './data.js';
import { type Job, trainOptionsOf } from './job.js';
import { loadModel } from './loadModel.js';
import type { LocateOptions } from './locate.js';
import { type Metrics, metricsIn } from './metric.js';
import type { Model } from './model.js';
import { type RunWarning, warningsOf } from './outcome.js';
import { type RunFolder, type RunRecord, readMetrics, readUnfinishedRun } from './runFolder.js';
import { runRecord } from './runRecord.js';
import type { SampleEvent } from './samples.js';
import { labelsOf, taskAsked } from './task.js';
import { verdictOfAdapter } from './verdict.js';

/** What a job in a run folder tells, beside what training tells. */
export type JobEvent =
  | TrainEvent
  | SampleEvent
  | { kind: 'data'; train: EncodeStats; eval?: EncodeStats }
  | {
      kind: 'saved';
      folder: string;
      /** The result's files in it. */
      files: string[];
      what: 'adapter' | 'model';
      steps: number;
      /** Whether it ended before its last step because the held-out loss got no better. */
      early: boolean;
      /** Of this process; a resumed run took longer. */
      seconds: number;
      /** Losses of the held-out data, where there is some, at the start, and of what was kept, with what else was measured. */
      heldOut?: {
        before: number;
        after: number;
        step: number;
        metrics: { before: Metrics; after: Metrics };
      };
      /** Why the result may be worth nothing; empty where nothing says so. */
      warnings: RunWarning[];
      /** What the adapter's own figures say; docs/analysis.md has the rules. Empty where they cannot be had at once. */
      verdict: Finding[];
    };

export interface RunOptions extends WorkOptions {
  resume?: boolean;
  /** What to type to do the same again, for run.json. */
  command: string;
}

/** Loads the job's model and puts its adapter or its method on it, unless the data have a say in how that starts. */
export async function openJob(
  job: Job,
  { onProgress, signal, ...options }: LocateOptions & WorkOptions = {},
): Promise<Model> {
  const { quantize, device, threads, chatTemplate, method, methodOptions, train, adapter, further } = job;
  const task = taskAsked(job);
  await refuseMissing([...job.data, ...(job.evalData ?? [])]);
  const model = await loadModel(job.model, {
    quantize,
    device,
    threads,
    chatTemplate,
    ...(task && { task: { ...task, labelsOf: () => labelsOf(task.kind, job.data) } }),
    ...options,
  });
  const start = { seed: train.seed, onProgress, signal };
  if (adapter !== undefined) await model.loadAdapter(adapter, { ...further, ...options });
  else if (!job.ranks && !job.eva) await model.addMethod(method, methodOptions, start);
  return model;
}

/** The job, with the method that its model has: an adapter brings its own. */
export function withMethodOf({ adapter }: Model, job: Job): Job {
  return adapter ? { ...job, method: adapter.method.name as MethodName } : job;
}

/**
 * Trains `model` (of openJob) in a run folder, to the saved result. When `signal` aborts, it ends with a
 * checkpoint and the event "stopped"; resume then goes on from there.
 */
export async function* runJob(
  model: Model,
  job: Job,
  folder: RunFolder,
  { resume, command, ...work }: RunOptions,
): AsyncGenerator<JobEvent, void, void> {
  const known = resume ? await readUnfinishedRun(folder.path) : undefined;
  let record: RunRecord | undefined;
  let counts: Omit<Extract<JobEvent, { kind: 'data' }>, 'kind'> | undefined;
  const events = model.train({
    ...trainOptionsOf(job),
    ...job.samples,
    run: folder.path,
    resume,
    ...work,
    onData: (stats) => {
      counts = stats;
    },
  });
  let before: { loss: number; metrics: Metrics } | undefined;
  let best: { loss: number; step: number; metrics: Metrics } | undefined;
  const note = (event: TrainEvent | SampleEvent) => {
    if (event.kind !== 'eval') return;
    const { loss, step } = event;
    const metrics = metricsIn(event);
    if (step === 0) before = { loss, metrics };
    if (event.best) best = { loss, step, metrics };
  };
  for await (const event of events) {
    if (event.kind === 'start') {
      yield { kind: 'data', ...counts! };
      record = await runRecord(model, job, { command, counts: counts!, start: event, before: known });
      for (const metric of await folder.begin(record, event.step, job)) note(metric);
    }
    if (event.kind === 'step' || event.kind === 'eval' || event.kind === 'sample') await folder.record(event);
    note(event);
    yield event;
    if (event.kind !== 'end') continue;
    const heldOut = before && best && heldOutOf(before, best);
    const { step: steps, seconds, tokens, early } = event;
    const what = trainsWholeModel(model) ? ('model' as const) : ('adapter' as const);
    const warnings = warningsOf(await readMetrics(folder.path));
    const verdict = await verdictOn(model);
    const result = { what, steps, early, seconds, tokens, ...(heldOut && { heldOut }), warnings, verdict };
    const files = await folder.finish({ ...record!, status: 'complete', result }, (staging) =>
      what === 'model'
        ? model.saveMerged(staging, { format: 'hf', overwrite: true })
        : model.saveAdapter(staging, { overwrite: true }),
    );
    yield { kind: 'saved', folder: folder.path, files, ...result };
  }
}

type Evaluated = { loss: number; metrics: Metrics };

function heldOutOf(before: Evaluated, best: Evaluated & { step: number }) {
  const { loss: after, step } = best;
  return { before: before.loss, after, step, metrics: { before: before.metrics, after: best.metrics } };
}

/** A result is worth saving whatever can be said of it. */
async function verdictOn({ adapter, base }: Model): Promise<Finding[]> {
  try {
    return adapter ? await verdictOfAdapter(adapter, base) : [];
  } catch {
    return [];
  }
}

/** A method that trains the model's own tensors leaves a model; one that adds some leaves an adapter. */
function trainsWholeModel({ adapter }: Model): boolean {
  return adapter?.trainables.every((t) => t.init === null) ?? false;
}
