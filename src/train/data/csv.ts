/** Tables in text: CSV as RFC 4180 has it, and the same with tabs. */
import { Readable } from 'node:stream';
import { CsvError, type CsvErrorCode, type Parser, parse } from 'csv-parse';
import { messageOf, UserError } from '../../base/errors.js';
import { streamFile } from '../../formats/io/node.js';
import { chunksOf, MAX_ROW_BYTES, type OnBytes } from './chunks.js';
import type { Content, Forms } from './form.js';
import { type Row, RowChecker } from './row.js';
import { columnsOfRows, rowOfRecord, type TableColumns } from './table.js';

/** csv-parse's errors in our words, behind the line of the record that they are in. */
const REASONS: Partial<Record<CsvErrorCode, string>> = {
  INVALID_OPENING_QUOTE: 'a quote stands inside a field; put the field in quotes and double those in it',
  CSV_INVALID_CLOSING_QUOTE: 'something stands behind a closing quote; double the quotes inside a field',
  CSV_QUOTE_NOT_CLOSED: 'a quote that opens a field is never closed',
  CSV_MAX_RECORD_SIZE: `a record has more than ${MAX_ROW_BYTES / 2 ** 20} MB; is a quote not closed?`,
};

/** A record with the text that it was read from. */
interface Raw {
  record: string[];
  raw: string;
}

/**
 * The rows of a table whose first line names its columns. Lines count as an editor counts them; a record is named by its
 * first one. Blank lines are let be.
 */
export function csvRows<C extends Content>(
  path: string,
  forms: Forms<C>,
  delimiter: ',' | '\t',
  onBytes?: OnBytes,
): AsyncGenerator<Row<C>, void, void> {
  return streamFile(path, async function* (file, size) {
    const onRead = (done: number) => onBytes?.(done, size);
    const rows = new RowChecker(forms, path, 'line');
    let columns: TableColumns<C> | undefined;
    let places: number[] = [];
    let width = 0;
    let line = 1;
    const parser = parse({
      delimiter,
      raw: true,
      skip_empty_lines: true,
      relax_column_count: true,
      max_record_size: MAX_ROW_BYTES,
    });
    try {
      for await (const { record, raw } of recordsOf(parser, textOf(chunksOf(file, path, onRead), path))) {
        const start = line + newlines(/^[\r\n]*/.exec(raw)![0]);
        line += newlines(raw);
        if (columns === undefined) {
          columns = columnsOfRows(forms, record, rows.place(start));
          places = columns.names.map((name) => record.indexOf(name));
          width = record.length;
          continue;
        }
        if (record.length !== width) {
          throw new UserError(
            `${rows.place(start)} has ${fields(record.length)}, the line of the columns ${fields(width)}`,
          );
        }
        // A table cannot tell an empty text from none.
        const cells = columns.names.map((name, i) => [name, record[places[i]] || null]);
        yield rowOfRecord(rows, columns, Object.fromEntries(cells), start);
      }
    } catch (error) {
      if (!(error instanceof CsvError)) throw error;
      throw new UserError(`${rows.place(line)}: ${REASONS[error.code] ?? messageOf(error)}`);
    }
    rows.finish();
  });
}

async function* recordsOf(parser: Parser, text: AsyncIterable<string>): AsyncGenerator<Raw> {
  const source = Readable.from(text);
  source.on('error', (error) => parser.destroy(error));
  try {
    for await (const record of source.pipe(parser)) yield record as Raw;
  } finally {
    source.destroy();
  }
}

/** Strict UTF-8; a byte order mark is dropped. */
async function* textOf(chunks: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let done = 0;
  const decode = (bytes?: Uint8Array) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw new UserError(`${path} is not UTF-8 text (behind byte ${done})`);
    }
  };
  for await (const bytes of chunks) {
    yield decode(bytes);
    done += bytes.length;
  }
  yield decode();
}

function newlines(text: string): number {
  return text.match(/\r\n|\r|\n/g)?.length ?? 0;
}

function fields(n: number): string {
  return `${n} ${n === 1 ? 'field' : 'fields'}`;
}
