import type { Tokenizer } from '../formats/tokenizer.js';
import { type EncodeRowsOptions, type EncodeStats, type Example, encodeRows } from '../train/data/encode.js';
import { readRows, rowsFrom } from '../train/data/rows.js';

/** A path of a JSONL, CSV, TSV or Parquet file, or rows in memory. */
export type DataSource = string | Iterable<unknown>;

/** Reads and encodes training or evaluation data. Throws UserError naming the file and line. */
export async function loadExamples(
  source: DataSource,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): Promise<{ examples: Example[]; stats: EncodeStats }> {
  if (typeof source !== 'string') return encodeRows(rowsFrom(source), tokenizer, options);
  return encodeRows(await readRows(source), tokenizer, { ...options, source });
}
