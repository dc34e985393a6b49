import { UserError } from '../base/errors.js';
import type { Tokenizer } from '../formats/tokenizer.js';
import { type EncodeRowsOptions, type EncodeStats, type Example, encodeRows } from '../train/data/encode.js';
import { type Row, readRows, rowsFrom } from '../train/data/rows.js';
import { splitRows } from '../train/data/split.js';

/** A path of a JSONL, CSV, TSV or Parquet file, or rows in memory. */
export type DataSource = string | Iterable<unknown>;

/** Examples, and how they came of their rows. */
export interface Examples {
  examples: Example[];
  stats: EncodeStats;
}

/** Reads and encodes a data set. Throws UserError naming the file and line. */
export async function loadExamples(
  source: DataSource,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): Promise<Examples> {
  return encodeRows(await rowsOf(source), tokenizer, named(source, options));
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
export async function loadTrainingExamples(
  { data, evalData, evalSplit, seed }: TrainingSources,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): Promise<{ train: Examples; evaluation?: Examples }> {
  if (evalSplit !== undefined && evalData !== undefined) {
    throw new UserError('held-out rows come either from evalData or from evalSplit, not both');
  }
  if (evalSplit === undefined) {
    const train = await loadExamples(data, tokenizer, options);
    return evalData === undefined
      ? { train }
      : { train, evaluation: await loadExamples(evalData, tokenizer, options) };
  }
  const { train, heldOut } = splitRows(await rowsOf(data), evalSplit, seed);
  const encode = (rows: readonly Row[]) => encodeRows(rows, tokenizer, named(data, options));
  return { train: await encode(train), evaluation: await encode(heldOut) };
}

async function rowsOf(source: DataSource): Promise<Row[]> {
  return typeof source === 'string' ? readRows(source) : rowsFrom(source);
}

function named(source: DataSource, options: EncodeRowsOptions): EncodeRowsOptions {
  return typeof source === 'string' ? { ...options, source } : options;
}
