import { createHash, type Hash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { UserError } from '../base/errors.js';
import { Turns, type WorkOptions } from '../base/work.js';
import { exists, fileError, withFile } from '../formats/io/node.js';
import { TOKENIZER_FILES, type TokenizerOf } from '../formats/tokenizer.js';
import { type Encoding, type Examples, MemoryCache } from '../train/data/cache.js';
import type { EncodeRowsOptions } from '../train/data/encode.js';
import type { Content, Forms } from '../train/data/form.js';
import { checkedRows, type Row, streamRows } from '../train/data/rows.js';
import { heldOutRows } from '../train/data/split.js';
import type { Reading } from '../train/objective.js';
import { cacheFolder } from './locate.js';

export type { Examples } from '../train/data/cache.js';

/**
 * A path of a JSONL, JSON, CSV, TSV or Parquet file, a list of such paths, whose rows follow one another (those of one
 * file are of one kind), or rows that a program gives.
 */
export type DataSource = string | readonly string[] | Iterable<unknown> | AsyncIterable<unknown>;

/** Files from this size on are encoded once and for all. */
const LARGE_FILE_BYTES = 8 * 2 ** 20;

/** What the ids of a text depend on beside the tokenizer's files: which token ends a turn. */
const MODEL_FILES = ['generation_config.json', 'config.json'];

/** Reads and encodes a data set; close it in the end. Throws UserError naming the file and line. */
export async function loadExamples<E, C extends Content>(
  source: DataSource,
  reading: Reading<E, C>,
  tokenizer: TokenizerOf,
  options: EncodeRowsOptions,
  work: WorkOptions = {},
): Promise<Examples<E>> {
  return new DataSet(source, reading, tokenizer, options, work).load();
}

/** All checked rows of a source. Throws UserError naming the file and line. */
export async function* rowsOfSource<C extends Content>(
  source: DataSource,
  forms: Forms<C>,
): AsyncGenerator<Row<C>> {
  const files = filesOf(source);
  if (!files) yield* checkedRows(source as Exclude<DataSource, string>, forms);
  else
    for (const file of files) for await (const row of streamRows(file, forms)) yield { ...row, source: file };
}

/** Throws UserError where one of the files cannot be opened: told before a model is. */
export async function refuseMissing(files: readonly string[]): Promise<void> {
  for (const file of files) await withFile(file, async () => {});
}

export interface TrainingSources {
  data: DataSource;
  evalData?: DataSource;
  /** Rows of `data` to hold out where there is no evalData: a share below 1, or a number. */
  evalSplit?: number;
  /** By which they are chosen. */
  seed: number;
}

/** As loadExamples, for what a run trains on and what it is evaluated on, where there is some. */
export async function loadTrainingExamples<E, C extends Content>(
  { data, evalData, evalSplit, seed }: TrainingSources,
  reading: Reading<E, C>,
  tokenizer: TokenizerOf,
  options: EncodeRowsOptions,
  work: WorkOptions = {},
): Promise<{ train: Examples<E>; evaluation?: Examples<E> }> {
  if (evalSplit !== undefined && evalData !== undefined) {
    throw new UserError('held-out rows come either from evalData or from evalSplit, not both');
  }
  if (evalSplit === undefined) {
    const train = await loadExamples(data, reading, tokenizer, options, work);
    if (evalData === undefined) return { train };
    return {
      train,
      evaluation: await closing(train, loadExamples(evalData, reading, tokenizer, options, work)),
    };
  }
  const set = new DataSet(await rereadable(data), reading, tokenizer, options, work);
  const train = await set.load({ size: evalSplit, seed, heldOut: false });
  return { train, evaluation: await closing(train, set.load({ size: evalSplit, seed, heldOut: true })) };
}

/** One side of a split. */
interface Part {
  size: number;
  seed: number;
  heldOut: boolean;
}

/** A source of rows, which is read once for each thing that is wanted of it, so that no row has to be kept. */
class DataSet<E, C extends Content> {
  private count: Promise<number> | undefined;
  private contents: Promise<string | undefined> | undefined;
  private readonly files: readonly string[] | undefined;

  constructor(
    private readonly source: DataSource,
    private readonly reading: Reading<E, C>,
    private readonly tokenizer: TokenizerOf,
    private readonly options: EncodeRowsOptions,
    private readonly work: WorkOptions,
  ) {
    this.files = filesOf(source);
  }

  /** The examples of all rows, or of a part of them. */
  async load(part?: Part): Promise<Examples<E>> {
    this.contents ??= this.hash();
    const contents = await this.contents;
    const key =
      contents &&
      createHash('sha256')
        .update(JSON.stringify([contents, part ?? null]))
        .digest('hex')
        .slice(0, 32);
    const cache = this.reading.cache?.(cacheFolder()) ?? new MemoryCache<E>();
    return cache.load(key, () => this.encode(part));
  }

  private async *encode(part: Part | undefined): Encoding<E> {
    const { files, options, reading } = this;
    const named = files ? { ...options, source: files.join(', ') } : options;
    return yield* reading.encode(await this.partOf(part), this.tokenizer.tokenizer, named);
  }

  private async partOf(part: Part | undefined): Promise<AsyncIterable<Row<C>>> {
    if (!part) return this.rows('reading');
    this.count ??= countOf(this.rows('counting the rows of'));
    const isHeldOut = heldOutRows(await this.count, part.size, part.seed);
    const doing = part.heldOut ? 'reading the held-out rows of' : 'reading';
    return filtered(this.rows(doing), (row) => isHeldOut(row) === part.heldOut);
  }

  /** All rows, telling of those that were taken. */
  private async *rows(doing: string): AsyncGenerator<Row<C>, void, void> {
    const { files, work } = this;
    const { forms } = this.reading;
    const turns = new Turns(work.signal);
    let rows = 0;
    if (!files) {
      const told = { what: `${doing} the data`, total: Number.POSITIVE_INFINITY, unit: 'rows' } as const;
      for await (const row of checkedRows(this.source as Exclude<DataSource, string>, forms)) {
        yield row;
        await turns.take();
        work.onProgress?.({ ...told, done: ++rows });
      }
      return;
    }
    for (const source of files) {
      const what = `${doing} ${basename(source)}`;
      let read = { done: 0, total: 0 };
      const onBytes = (done: number, total: number) => {
        read = { done, total };
      };
      for await (const row of streamRows(source, forms, onBytes)) {
        yield { ...row, source };
        rows++;
        await turns.take();
        if (read.total > 0) work.onProgress?.({ what, ...read, unit: 'bytes', rows });
      }
    }
  }

  /** Of large files: what their examples depend on, as one text; undefined for other sources. */
  private async hash(): Promise<string | undefined> {
    const { files, options } = this;
    if (!files) return undefined;
    let size = 0;
    for (const file of files) size += await sizeOf(file);
    if (size < LARGE_FILE_BYTES) return undefined;
    const hash = createHash('sha256');
    for (const file of files) {
      hash.update(`\n${extname(file).toLowerCase()} ${await sizeOf(file)}\n`);
      await addFile(hash, file, this.work.signal);
    }
    const { folder, model } = this.tokenizer;
    const companions = [
      ...TOKENIZER_FILES.map((name) => [folder, name]),
      ...MODEL_FILES.map((name) => [model, name]),
    ];
    for (const [within, name] of companions) {
      const path = join(within, name);
      hash.update(`\n${name}\n`);
      if (await exists(path)) await addFile(hash, path);
    }
    const { plain = null, toolUse = null } = this.tokenizer.tokenizer.chatTemplates;
    const templates = [plain, toolUse];
    // A template that writes today's date gives other ids tomorrow.
    const day = templates.some((text) => text?.includes('strftime_now')) ? new Date().toDateString() : null;
    hash.update(JSON.stringify([options, templates, day]));
    return hash.digest('hex');
  }
}

/** The files of a source; undefined where it is rows. */
function filesOf(source: DataSource): readonly string[] | undefined {
  if (typeof source === 'string') return [source];
  const isPaths =
    Array.isArray(source) && source.length > 0 && source.every((one) => typeof one === 'string');
  return isPaths ? (source as readonly string[]) : undefined;
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (info) => (info.isFile() ? info.size : 0),
    () => 0, // Reading it says what is wrong.
  );
}

async function addFile(hash: Hash, path: string, signal?: AbortSignal): Promise<void> {
  try {
    await withFile(path, (file) =>
      pipeline(file.createReadStream({ autoClose: false }), hash, { end: false, signal }),
    );
  } catch (error) {
    signal?.throwIfAborted();
    throw fileError('read', path, error);
  }
}

/** A source that can be read again: a generator gives its rows but once. */
export async function rereadable(source: DataSource): Promise<DataSource> {
  if (typeof source === 'string' || Array.isArray(source)) return source;
  const rows: unknown[] = [];
  for await (const row of source) rows.push(row);
  return rows;
}

async function countOf(rows: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of rows) count++;
  return count;
}

async function* filtered<T>(items: AsyncIterable<T>, keep: (index: number) => boolean): AsyncGenerator<T> {
  let index = 0;
  for await (const item of items) if (keep(index++)) yield item;
}

async function closing<T>(first: Pick<Examples, 'close'>, second: Promise<T>): Promise<T> {
  try {
    return await second;
  } catch (error) {
    await first.close();
    throw error;
  }
}
