/** Rows of training data, from a file of any kind or from memory, one after the other. */
import { extname } from 'node:path';
import type { OnBytes } from './chunks.js';
import { csvRows } from './csv.js';
import type { Content, Forms } from './form.js';
import { type RowContent, TEXT_FORMS } from './forms.js';
import { jsonRows } from './json.js';
import { parquetRows } from './parquet.js';
import { type Row, RowChecker } from './row.js';

export type { OnBytes } from './chunks.js';
export type { Row } from './row.js';

const readers: Readonly<Record<string, typeof jsonRows>> = {
  '.csv': (path, forms, onBytes) => csvRows(path, forms, ',', onBytes),
  '.tsv': (path, forms, onBytes) => csvRows(path, forms, '\t', onBytes),
  '.parquet': parquetRows,
};

/**
 * The rows of a file, each of one of `forms`, read as they are asked for: CSV, TSV or Parquet by the ending of its name,
 * else JSONL or one JSON array.
 * @throws UserError that names the file, the line or row and the column or key, and says what was expected
 * there; when no row is there; when rows are of more than one kind.
 */
export function streamRows<C extends Content>(
  path: string,
  forms: Forms<C>,
  onBytes?: OnBytes,
): AsyncGenerator<Row<C>, void, void> {
  return (readers[extname(path).toLowerCase()] ?? jsonRows)(path, forms, onBytes);
}

/** All rows of text of a file that fits in memory. Throws as streamRows. */
export async function readRows(path: string): Promise<Row<RowContent>[]> {
  const rows: Row[] = [];
  for await (const row of streamRows(path, TEXT_FORMS)) rows.push(row);
  return rows;
}

/** Checks rows that a program gives, as they come. Throws UserError that names `source` and the row, from 1. */
export async function* checkedRows<C extends Content>(
  values: Iterable<unknown> | AsyncIterable<unknown>,
  forms: Forms<C>,
  source = 'the data',
): AsyncGenerator<Row<C>, void, void> {
  const checker = new RowChecker(forms, source, 'row');
  let line = 0;
  for await (const value of values) yield checker.check(value, ++line);
  checker.finish();
}

/** Checks rows that are in memory already, at once. Throws as checkedRows. */
export function rowsFrom<C extends Content>(
  values: Iterable<unknown>,
  forms: Forms<C>,
  source = 'the data',
): Row<C>[] {
  const checker = new RowChecker(forms, source, 'row');
  const rows = Array.from(values, (value, i) => checker.check(value, i + 1));
  checker.finish();
  return rows;
}
