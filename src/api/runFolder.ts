import { appendFile, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { describeHolder, holderOf, Lock } from '../formats/io/lock.js';
import { exists, fileError, readJson, readText } from '../formats/io/node.js';
import { contentOf, discard, ended, sweep, temporaryFor } from '../formats/io/staging.js';
import {
  isWithin,
  makeFolder,
  prepareOutput,
  whyPrecious,
  writeFileAtomic,
  writeFolderAtomic,
} from '../formats/io/write.js';
import { CHECKPOINTS, listCheckpoints } from '../train/checkpoint.js';
import { EVENTS_FILE, EventFile } from '../train/tensorboard.js';
import { checkArguments } from './arguments.js';
import { lossCurveSvg } from './curveSvg.js';
import { curvesOf } from './curves.js';
import { LR_FILES } from './lrReport.js';
import { METRIC_NAMES, METRICS, type Metric, type Metrics } from './metric.js';
import { environmentSchema, identitySchema } from './provenance.js';
import type { SampleEvent } from './samples.js';

export const RUN_FILE = 'run.json';
const METRICS_FILE = 'metrics.jsonl';
const SAMPLES = 'samples.jsonl';
const CURVE = 'loss.svg';
/** What a process that writes into a run folder holds. */
const LOCK = 'run';

const dataSchema = z.object({
  files: z.array(identitySchema),
  counts: z.record(z.string(), z.number()),
});

const runSchema = z.object({
  status: z.enum(['running', 'complete']),
  /** Every option, defaults written out. */
  options: z.record(z.string(), z.unknown()),
  /** What to type to do the same again, and where. */
  command: z.string(),
  directory: z.string().optional(),
  /** What was trained on: files, and how many rows, examples and tokens were in them. */
  data: z.object({ train: dataSchema, eval: dataSchema.optional() }).optional(),
  model: z.object({ files: z.array(identitySchema).optional() }).catchall(z.unknown()),
  /** The processes that trained, in their order: one, and one more for each resume. */
  sessions: z
    .array(z.object({ started: z.string(), step: z.int(), environment: environmentSchema }))
    .default([]),
  result: z.record(z.string(), z.unknown()).optional(),
});
/** What run.json says. */
export type RunRecord = z.output<typeof runSchema>;

const metricSchema = z.looseObject({
  kind: z.enum(['step', 'eval']),
  step: z.int().nonnegative(),
  loss: z.number(),
});

const sampleEventSchema = z.looseObject({ kind: z.literal('sample'), step: z.int().nonnegative() });

export interface ClaimOptions {
  resume?: boolean;
  overwrite?: boolean;
  /** Files and folders that the job reads: an output that holds one is not overwritten. */
  inputs?: readonly string[];
}

/**
 * What run.json of an unfinished run says. What a dead process left beside it goes, also where there is no such run, for
 * which it throws UserError.
 */
export async function readUnfinishedRun(folder: string): Promise<RunRecord> {
  await sweep(folder);
  const place = join(folder, RUN_FILE);
  if (!(await exists(place)))
    throw new UserError(
      `there is no run to resume in ${folder} (no ${RUN_FILE}); without --resume one begins`,
    );
  const record = await readRecord(folder);
  if (record.status === 'complete')
    throw new UserError(
      `the run in ${folder} is complete, nothing is left to resume; to train its adapter further, name it as the adapter of a new run (--adapter)`,
    );
  return record;
}

/**
 * The output folder of a training run. While it trains: run.json, metrics.jsonl and checkpoints/; in the end
 * the result's files instead of the checkpoints. One process at a time writes into it.
 */
export class RunFolder {
  private events: EventFile | undefined;
  private lock: Lock | undefined;
  private made = false;

  private constructor(
    readonly path: string,
    private readonly options: ClaimOptions,
  ) {}

  /**
   * Looks whether a run may write to `path`, and keeps other processes away from a folder that is there; what a dead one
   * left in it is put in order. Throws UserError where it may not: another run is at work there, something is there,
   * unless it is resumed or overwritten, what is there to overwrite is no run or adapter, or it cannot be written.
   * Give it back by `release`.
   */
  static async claim(path: string, options: ClaimOptions = {}): Promise<RunFolder> {
    if (options.resume && options.overwrite)
      throw new UserError('a run is either resumed or overwritten, not both');
    await putInOrder(path);
    await refuse(path, options);
    await prepareOutput(path);
    const folder = new RunFolder(path, options);
    if (await exists(path)) await folder.hold();
    return folder;
  }

  /** Takes the lock, and looks again at what another process may have changed before. */
  private async hold(): Promise<void> {
    const lock = await Lock.take(this.path, LOCK);
    if (!(lock instanceof Lock)) throw inUse(this.path, describeHolder(lock));
    this.lock = lock;
    try {
      await refuse(this.path, this.options);
    } catch (error) {
      await this.release();
      throw error;
    }
  }

  /** Lets other processes write here. A folder that was made for the run and has nothing in it goes. */
  async release(): Promise<void> {
    await this.lock?.release();
    this.lock = undefined;
    // Fails where something is in it.
    if (this.made) await rmdir(this.path).catch(() => {});
  }

  /**
   * Begins, or goes on behind `step`: writes run.json and cuts metrics.jsonl and samples.jsonl to what that step knew.
   * Returns the metrics kept. With `tensorboard` metrics go to an event file too.
   */
  async begin(
    record: RunRecord,
    step: number,
    { tensorboard = false }: { tensorboard?: boolean } = {},
  ): Promise<Metric[]> {
    const kept = step > 0 ? await readMetrics(this.path, step) : [];
    const samples =
      step > 0 ? await readLines<SampleEvent>(join(this.path, SAMPLES), sampleEventSchema, step) : [];
    if (!this.lock) {
      this.made = !(await exists(this.path));
      await makeFolder(this.path);
      await this.hold();
    }
    const fill = async (folder: string) => {
      // First of all, since by it a folder is a run.
      await writeFileAtomic(join(folder, RUN_FILE), encode(record));
      await writeFileAtomic(join(folder, METRICS_FILE), kept.map(line).join(''));
      if (samples.length > 0) await writeFileAtomic(join(folder, SAMPLES), samples.map(line).join(''));
      else await rm(join(folder, SAMPLES), { force: true });
    };
    const { resume, overwrite } = this.options;
    if (overwrite && (await isOccupied(this.path)))
      await writeFolderAtomic(this.path, fill, { overwrite: true });
    else {
      await fill(this.path).catch(async (error: unknown) => {
        // A run that could not begin is none.
        for (const name of resume ? [] : [METRICS_FILE, SAMPLES, RUN_FILE])
          await rm(join(this.path, name), { force: true });
        throw error;
      });
    }
    if (tensorboard) this.events = await EventFile.open(join(this.path, EVENTS_FILE), step);
    return kept;
  }

  /** Appends a line to metrics.jsonl, and to the event file where there is one, or to samples.jsonl. */
  async record(event: Metric | SampleEvent): Promise<void> {
    const path = join(this.path, event.kind === 'sample' ? SAMPLES : METRICS_FILE);
    await appendFile(path, line(event)).catch((error: unknown) => {
      throw fileError('write', path, error);
    });
    if (event.kind !== 'sample') await this.events?.add(event.step, scalarsOf(event));
  }

  /**
   * Puts the result in place: `save` writes it to a folder of its own, whose files are then moved here, the
   * configuration last, so that what can be loaded is whole; the loss curve stands beside them. The checkpoints
   * go. Returns the result's files' names.
   */
  async finish(record: RunRecord, save: (folder: string) => Promise<unknown>): Promise<string[]> {
    const staging = temporaryFor(join(this.path, 'result'));
    await save(staging);
    const isConfig = (name: string) => Number(name.endsWith('config.json'));
    const names = (await readdir(staging)).sort((a, b) => isConfig(a) - isConfig(b));
    for (const name of names) await rename(join(staging, name), join(this.path, name));
    await rm(staging, { recursive: true });
    ended(staging);
    const curve = lossCurveSvg(curvesOf(await readMetrics(this.path)), basename(this.path));
    if (curve !== undefined) await writeFileAtomic(join(this.path, CURVE), curve);
    await writeFileAtomic(join(this.path, RUN_FILE), encode(record));
    await discard(join(this.path, CHECKPOINTS));
    return names;
  }
}

/** What run.json of a run says. */
export async function readRun(folder: string): Promise<RunRecord> {
  checkArguments('readRun', [folder]);
  return readJson(join(folder, RUN_FILE), runSchema);
}

/** The metrics of a run up to a step; a line cut short by a kill is left out. */
export async function readMetrics(folder: string, upTo = Number.POSITIVE_INFINITY): Promise<Metric[]> {
  checkArguments('readMetrics', [folder]);
  return readLines<Metric>(join(folder, METRICS_FILE), metricSchema, upTo);
}

/** The lines of a file that fit a schema, up to a step; none without the file. */
async function readLines<T extends { step: number }>(
  path: string,
  schema: z.ZodType,
  upTo: number,
): Promise<T[]> {
  if (!(await exists(path))) return [];
  const text = await readText(path);
  return text.split('\n').flatMap((one) => {
    const value = parsedLine(one);
    return schema.safeParse(value).success && (value as T).step <= upTo ? [value as T] : [];
  });
}

/** Under the tags that transformers uses. */
function scalarsOf(metric: Metric): Record<string, number> {
  const { loss } = metric;
  if (metric.kind === 'eval') {
    return { 'eval/loss': loss, ...measured(metric, 'eval') };
  }
  const { penalty, learningRate, gradNorm, epoch, tokensPerSecond } = metric;
  return {
    'train/loss': loss,
    ...measured(metric, 'train'),
    ...(penalty !== undefined && { 'train/penalty': penalty }),
    'train/learning_rate': learningRate,
    'train/grad_norm': gradNorm,
    'train/epoch': epoch,
    'train/tokens_per_second': tokensPerSecond,
  };
}

/** What an objective measured, under its tags. */
function measured(metrics: Metrics, kind: string): Record<string, number> {
  return Object.fromEntries(
    METRIC_NAMES.flatMap((name) =>
      metrics[name] === undefined ? [] : [[`${kind}/${METRICS[name].tag ?? name}`, metrics[name]]],
    ),
  );
}

function parsedLine(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Finishes, takes back or removes what dead processes left in a run folder. Throws UserError where a living one is at
 * work in it.
 */
async function putInOrder(path: string): Promise<void> {
  if (!(await stat(path).catch(() => undefined))?.isDirectory()) return;
  const holder = await holderOf(path, LOCK);
  if (holder) throw inUse(path, describeHolder(holder));
  await sweep(path);
  await sweep(join(path, CHECKPOINTS));
  const record = await readRun(path).catch(() => undefined);
  // A process died between its last two steps.
  if (record?.status === 'complete') await discard(join(path, CHECKPOINTS)).catch(() => {});
}

function inUse(path: string, holder: string): UserError {
  return new UserError(`${path} is in use: ${holder} trains into it`);
}

/** Throws UserError where a run may not write to `path`. */
async function refuse(path: string, { resume, overwrite, inputs = [] }: ClaimOptions): Promise<void> {
  if (resume) {
    await readUnfinishedRun(path);
    return;
  }
  if (!(await isOccupied(path))) return;
  const kept = await whyKept(path, inputs);
  if (!overwrite) throw new UserError(await occupied(path, kept === undefined));
  if (kept) throw new UserError(kept);
}

/** Why what is in a folder is not to be replaced; undefined where it may be. */
async function whyKept(path: string, inputs: readonly string[]): Promise<string | undefined> {
  if (!(await isResult(path))) return `${path} is neither a run nor an adapter and is not overwritten`;
  for (const input of inputs) {
    if (await isWithin(input, path))
      return `${path} holds ${input}, which the job reads, and is not overwritten`;
  }
  return whyPrecious(path);
}

/** Whether a folder holds more than a learning-rate test. Throws UserError where it is no folder. */
async function isOccupied(path: string): Promise<boolean> {
  if (!(await exists(path))) return false;
  if (!(await stat(path)).isDirectory()) throw new UserError(`${path} is a file, not a folder`);
  return contentOf(await readdir(path)).some((name) => !LR_FILES.includes(name));
}

/** Whether a folder is a run or an adapter, which may be replaced when asked. */
async function isResult(path: string): Promise<boolean> {
  const names = await readdir(path);
  return [RUN_FILE, 'adapter_config.json'].some((name) => names.includes(name));
}

async function occupied(path: string, replaceable: boolean): Promise<string> {
  if (!(await isResult(path))) return `${path} holds other files already; choose another output`;
  const unfinished = (await exists(join(path, RUN_FILE))) && (await readRecord(path)).status === 'running';
  if (!unfinished) {
    return `${path} exists already; choose another output${replaceable ? ', or --overwrite it' : ''}`;
  }
  const saved = (await listCheckpoints(path)).length > 0;
  return `${path} holds an unfinished run${saved ? '' : ' without a checkpoint'}; go on with --resume, or ${replaceable ? 'start over with --overwrite' : 'choose another output'}`;
}

/** As readRun, of a run that is to be gone on with or replaced. */
async function readRecord(path: string): Promise<RunRecord> {
  return readRun(path).catch((error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${error.message}; the run cannot be gone on with: start over with --overwrite`);
  });
}

function encode(record: RunRecord): string {
  return `${JSON.stringify(record, null, 2)}\n`;
}

function line(event: Metric | SampleEvent): string {
  return `${JSON.stringify(event)}\n`;
}
