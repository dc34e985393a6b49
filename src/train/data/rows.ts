/** Rows of training data, from a file of any kind or from memory. */
import { extname } from 'node:path';
import { readCsv } from './csv.js';
import { readJsonl } from './jsonl.js';
import { readParquet } from './parquet.js';
import { type Row, RowList } from './row.js';

export type { Row } from './row.js';

const readers: Readonly<Record<string, (path: string) => Promise<Row[]>>> = {
  '.csv': (path) => readCsv(path, ','),
  '.tsv': (path) => readCsv(path, '\t'),
  '.parquet': readParquet,
};

/**
 * Reads a file of rows: CSV, TSV or Parquet by the ending of its name, else JSONL.
 * @throws UserError that names the file, the line or row and the column or key, and says what was expected
 * there; when no row is left; when rows are of more than one kind.
 */
export function readRows(path: string): Promise<Row[]> {
  return (readers[extname(path).toLowerCase()] ?? readJsonl)(path);
}

/** Checks rows that are in memory already. Throws UserError that names `source` and the row, from 1. */
export function rowsFrom(values: Iterable<unknown>, source = 'the data'): Row[] {
  const list = new RowList(source, 'row');
  let line = 0;
  for (const value of values) list.add(value, ++line);
  return list.finish();
}
