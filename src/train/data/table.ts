/** Rows out of the columns of a table. */
import { nearest, UserError } from '../../base/errors.js';
import { parseJsonText } from '../../formats/io/json.js';
import { describe, KINDS, type Row, type RowChecker } from './row.js';

const EXPECTED = 'expected the columns "prompt" and "completion", "text", or "messages"';

/** The columns that rows of each kind are made of; those in JSON text besides. */
const COLUMNS: Readonly<Record<Row['kind'], readonly string[]>> = {
  completion: ['prompt', 'completion'],
  text: ['text'],
  messages: ['messages'],
};
const JSON_COLUMNS: readonly string[] = ['messages', 'tools'];

/**
 * Which of a table's columns make its rows; others (an id, a source) are let be. Throws UserError that begins
 * with `place` where there are none, too many, or one twice.
 */
export function columnsOfRows(names: readonly string[], place: string): string[] {
  const known = names.filter((name) => Object.hasOwn(KINDS, name));
  const kinds = [...new Set(known.map((name) => KINDS[name]))];
  const found = `found ${names
    .slice(0, 8)
    .map((name) => JSON.stringify(name))
    .join(', ')}`;
  if (kinds.length !== 1) {
    const guess = names.map((name) => nearest(name, Object.keys(KINDS))).find((name) => name !== undefined);
    const hint = kinds.length === 0 && guess !== undefined ? `, did you mean "${guess}"?` : '';
    throw new UserError(`${place}: ${EXPECTED}, ${found}${hint}`);
  }
  const missing = COLUMNS[kinds[0]].find((name) => !names.includes(name));
  if (missing !== undefined) throw new UserError(`${place}: the column "${missing}" is missing, ${found}`);
  const wanted = [...COLUMNS[kinds[0]], ...(kinds[0] === 'messages' ? ['tools'] : [])];
  const columns = names.filter((name) => wanted.includes(name));
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice !== undefined) throw new UserError(`${place}: the column "${twice}" is there twice`);
  return columns;
}

/** The row of one record of the columns that columnsOfRows chose. Throws UserError that names the row and the column. */
export function rowOfRecord(rows: RowChecker, record: Readonly<Record<string, unknown>>, line: number): Row {
  const place = rows.place(line);
  const value: Record<string, unknown> = {};
  for (const [column, cell] of Object.entries(record)) {
    if (JSON_COLUMNS.includes(column)) {
      // A table has a column of tools for all of its rows, and no row needs some.
      if (column === 'tools' && (cell === '' || cell === null || cell === undefined)) continue;
      value[column] =
        typeof cell === 'string' ? parseJsonText(`${place}, column "${column}"`, cell) : withoutNulls(cell);
    } else if (typeof cell === 'string') value[column] = cell;
    else throw new UserError(`${place}, column "${column}": expected text, found ${describe(cell)}`);
  }
  return rows.check(value, line);
}

/** Lists of records as Parquet has them: a key that only other records have is null there. */
function withoutNulls(cell: unknown): unknown {
  if (Array.isArray(cell)) return cell.map(withoutNulls);
  if (typeof cell !== 'object' || cell === null || Object.getPrototypeOf(cell) !== Object.prototype)
    return cell;
  const entries = Object.entries(cell).map(([key, value]) => [key, withoutNulls(value)] as const);
  return Object.fromEntries(entries.filter(([key, value]) => key === 'content' || (value ?? null) !== null));
}
