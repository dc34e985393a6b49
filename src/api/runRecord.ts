import { UserError } from '../base/errors.js';
import type { EncodeStats } from '../train/data/encode.js';
import type { TrainEvent } from '../train/loop.js';
import { flattenJob, type Job } from './job.js';
import type { Model } from './model.js';
import { dataIdentities, environmentNow, type FileIdentity, modelIdentity } from './provenance.js';
import type { RunRecord } from './runFolder.js';

interface RunStart {
  command: string;
  /** What was read of the data. */
  counts: { train: EncodeStats; eval?: EncodeStats };
  /** Its first event: the step that it goes on behind, and what the number of rows decided. */
  start: Pick<Extract<TrainEvent, { kind: 'start' }>, 'step' | 'epochs' | 'learningRate'>;
  /** What run.json said before a resume. */
  before?: RunRecord;
}

/**
 * What run.json says of a run that begins or goes on. Throws UserError where one goes on behind a step, and its rows or
 * its model are not those that it began with.
 */
export async function runRecord(
  model: Model,
  job: Job,
  { command, counts, start, before }: RunStart,
): Promise<RunRecord> {
  const { step, epochs, learningRate } = start;
  const train = await dataIdentities(job.data);
  const evaluation = job.evalData === undefined ? train : await dataIdentities(job.evalData);
  const files = await modelIdentity(job.model, model.base.folder);
  if (before && step > 0) {
    checkSameFiles(job.data, before.data?.train.files, train);
    if (job.evalData !== undefined) checkSameFiles(job.evalData, before.data?.eval?.files, evaluation);
    for (const file of files) {
      const known = before.model.files?.find((other) => other.file === file.file);
      checkSame(`${job.model}: ${file.file}`, known, file);
    }
  }
  const session = { started: new Date().toISOString(), step, environment: environmentNow() };
  return {
    status: 'running',
    options: {
      ...(job.train.maxSteps === undefined && { epochs }),
      learningRate,
      ...withoutAbsent(flattenJob(job)),
    },
    command,
    directory: before?.directory ?? process.cwd(),
    data: {
      train: { files: train, counts: numbersOf(counts.train) },
      ...(counts.eval && { eval: { files: evaluation, counts: numbersOf(counts.eval) } }),
    },
    model: { type: model.base.config.modelType, ...model.parameters, files },
    sessions: [...(before?.sessions ?? []), session],
  };
}

/** A key that is there without a value would hide one of the same name. */
function withoutAbsent(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function checkSameFiles(
  paths: readonly string[],
  before: readonly FileIdentity[] | undefined,
  now: readonly FileIdentity[],
): void {
  if (before && before.length !== now.length) {
    throw new UserError(
      `the run began with ${before.length} files of rows, not ${now.length}; it goes on with those only`,
    );
  }
  for (const [i, path] of paths.entries()) checkSame(path, before?.[i], now[i]);
}

function checkSame(what: string, before: FileIdentity | undefined, now: FileIdentity): void {
  if (!before || before.sha256 === now.sha256) return;
  throw new UserError(`${what} has changed since the run began; a run goes on with what it began with only`);
}

function numbersOf({ unread: _, ...counts }: EncodeStats): Record<string, number> {
  return counts;
}
