/** The models and data of a lab: what they are, looked up once, and subsets of rows. */
import { createHash } from 'node:crypto';
import { basename, extname, join } from 'node:path';
import { inspect } from '../api/inspect.js';
import type { Job } from '../api/job.js';
import { MemoryForecasts } from '../api/jobForecast.js';
import { type LocateOptions, resolveModelFolder } from '../api/locate.js';
import { dataIdentities, type FileIdentity, modelIdentity } from '../api/provenance.js';
import { UserError } from '../base/errors.js';
import { once } from '../base/once.js';
import { Rng } from '../base/rng.js';
import type { WorkOptions } from '../base/work.js';
import { exists } from '../formats/io/node.js';
import { makeOnce, writeStreamAtomic } from '../formats/io/write.js';
import { trainableCount } from '../methods/counts.js';
import { trainablesOf } from '../methods/head.js';
import { methodNamed } from '../methods/index.js';
import type { ModelConfig } from '../models/model.js';
import { describe, type Outline } from '../models/shape.js';
import { TEXT_FORMS } from '../train/data/forms.js';
import { type Row, streamRows } from '../train/data/rows.js';
import { namedRows } from './rows/named.js';

/** What a run's options say of its rows, names replaced by files. */
export interface RowSources {
  data: string[];
  evalData?: string[];
  evalSplit?: number;
  /** How many of the training rows; all where it is absent. */
  rows?: number;
}

/** The sources of rows in a run's options. Throws UserError where there are none. */
export async function rowSourcesOf(options: Readonly<Record<string, unknown>>): Promise<RowSources> {
  const { data, evalData, evalSplit, rows } = options;
  if (data === undefined) throw new UserError('the option "data" is missing');
  const isNamed = typeof data === 'string' && Object.hasOwn(namedRows, data) && !(await exists(data));
  const named = isNamed ? await namedRows[data]() : undefined;
  const held = evalData === undefined ? undefined : ([evalData].flat() as string[]);
  return {
    data: named?.data ?? ([data].flat() as string[]),
    evalData: held ?? (evalSplit === undefined ? named?.evalData : undefined),
    evalSplit: evalSplit as number | undefined,
    rows: typeof rows === 'number' ? rows : undefined,
  };
}

/** Looks models and data up, each once. */
export class Sources {
  private readonly configs = new Map<string, Promise<ModelConfig>>();
  private readonly shapes = new Map<string, Promise<Outline>>();
  private readonly models = new Map<string, Promise<FileIdentity[]>>();
  private readonly files = new Map<string, Promise<FileIdentity[]>>();
  private readonly counts = new Map<string, Promise<number>>();

  private readonly forecasts: MemoryForecasts;

  constructor(
    private readonly locating: LocateOptions = {},
    work: WorkOptions = {},
  ) {
    this.forecasts = new MemoryForecasts({ ...locating, ...work });
  }

  /** A model's configuration. */
  configOf(model: string): Promise<ModelConfig> {
    return once(this.configs, model, async () => {
      const found = await inspect(model, this.locating);
      if (found.kind !== 'model') throw new UserError(`${model} is an adapter, expected a model`);
      return found.config;
    });
  }

  /** A model's layers and tensors by its shape. */
  shapeOf(model: string): Promise<Outline> {
    return once(this.shapes, model, async () => describe(await this.configOf(model)));
  }

  /** Parameters that a method would train on a model. Throws UserError where it fits nothing. */
  async trainableOf(model: string, method: string, config: unknown): Promise<number> {
    return trainableCount(trainablesOf(methodNamed(method), config, await this.shapeOf(model)));
  }

  /** The most bytes that a job of training takes; undefined where that is not known before. */
  memoryOf(job: Job): Promise<number | undefined> {
    return this.forecasts.of(job);
  }

  /** A model by its contents. */
  modelIdentity(model: string): Promise<FileIdentity[]> {
    return once(this.models, model, async () =>
      modelIdentity(model, await resolveModelFolder(model, this.locating)),
    );
  }

  /** Files of rows by their contents. */
  dataIdentity(files: readonly string[]): Promise<FileIdentity[]> {
    return once(this.files, JSON.stringify(files), () => dataIdentities(files));
  }

  /** How many rows files hold. */
  rowsOf(files: readonly string[]): Promise<number> {
    return once(this.counts, JSON.stringify(files), async () => {
      let count = 0;
      for (const file of files) for await (const _ of streamRows(file, TEXT_FORMS)) count++;
      return count;
    });
  }
}

/**
 * A file with `count` of the rows of files, drawn once for all: of two numbers the smaller one's rows are among the larger
 * one's. It is made in `folder` where it is not there. Throws UserError where there are not so many.
 */
export async function subsetOf(files: readonly string[], count: number, folder: string): Promise<string> {
  const identity = await dataIdentities(files);
  const hash = createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 8);
  const name = basename(files[0], extname(files[0]));
  const path = join(folder, `${name}-${hash}-${count}.jsonl`);
  await makeOnce(path, async () => {
    const rows: Row[] = [];
    for (const file of files) for await (const row of streamRows(file, TEXT_FORMS)) rows.push(row);
    if (count > rows.length) throw tooFewRows(files, rows.length, count);
    const chosen = new Set(new Rng(0, 'rows of a lab').permutation(rows.length).slice(0, count));
    await writeStreamAtomic(path, async (write) => {
      for (const [i, row] of rows.entries())
        if (chosen.has(i)) await write(Buffer.from(`${JSON.stringify(asJson(row))}\n`));
    });
  });
  return path;
}

export function tooFewRows(files: readonly string[], found: number, wanted: number): UserError {
  return new UserError(`${files.join(', ')} has ${found} rows, fewer than the ${wanted} that are asked for`);
}

/** A checked row as a line of JSONL that reads as the same row. */
function asJson({ line: _line, source: _source, kind: _kind, ...content }: Row): unknown {
  if (!('messages' in content)) return content;
  const { messages, masked = [], ...rest } = content;
  return {
    messages: messages.map((turn, i) => (masked.includes(i) ? { ...turn, weight: 0 } : turn)),
    ...rest,
  };
}
