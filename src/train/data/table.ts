/** Rows out of the columns of a table. */
import { UserError } from '../../base/errors.js';
import { type Content, type Fields, type Forms, jsonText } from './form.js';
import { begunForm, describe, formsText, foundNames, type Row, type RowChecker } from './row.js';

/** The columns of a table that make rows, and the forms that rows of it may have. */
export interface TableColumns<C extends Content> {
  names: readonly string[];
  forms: Forms<C>;
}

/**
 * Which of a table's columns make its rows; others (an id, a source) are let be. Where columns of several forms are there, each
 * row has the form whose cells are all filled. Throws UserError that begins with `place` where no form's columns are all
 * there, or one is there twice.
 */
export function columnsOfRows<C extends Content>(
  all: Forms<C>,
  names: readonly string[],
  place: string,
): TableColumns<C> {
  const forms = all.filter(({ needs }) => needs.every((name) => names.includes(name)));
  if (forms.length === 0) {
    const missing = begunForm(all, names)?.needs.find((name) => !names.includes(name));
    const found = `found ${foundNames(all, names)}`;
    if (missing === undefined)
      throw new UserError(`${place}: expected the columns ${formsText(all)}, ${found}`);
    throw new UserError(`${place}: the column "${missing}" is missing, ${found}`);
  }
  const wanted = new Set(forms.flatMap(({ needs, may = [] }) => [...needs, ...may]));
  const columns = names.filter((name) => wanted.has(name));
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice !== undefined) throw new UserError(`${place}: the column "${twice}" is there twice`);
  return { names: columns, forms };
}

/**
 * The row of one record of the columns that columnsOfRows chose. A cell that is null or undefined is not filled.
 * Throws UserError that names the row and the column.
 */
export function rowOfRecord<C extends Content>(
  rows: RowChecker<C>,
  { forms }: TableColumns<C>,
  record: Fields,
  line: number,
): Row<C> {
  const place = rows.place(line);
  const filled = Object.entries(record).filter(([, cell]) => (cell ?? null) !== null);
  const isFilled = (name: string) => filled.some(([column]) => column === name);
  if (!forms.some(({ needs }) => needs.every(isFilled))) {
    const empty =
      begunForm(
        forms,
        filled.map(([name]) => name),
      ) ?? forms[0];
    const column = empty.needs.find((name) => !isFilled(name));
    throw new UserError(`${place}: the column "${column}" is empty`);
  }
  const isJson = (column: string) => forms.some(({ json }) => json?.includes(column));
  const value = filled.map(([column, cell]) => {
    const at = `${place}, column "${column}"`;
    if (isJson(column))
      return [column, typeof cell === 'string' ? jsonText(at, cell, column) : withoutNulls(cell)];
    if (typeof cell === 'string') return [column, cell];
    if (
      (typeof cell === 'number' || typeof cell === 'bigint') &&
      forms.some(({ numbers }) => numbers?.includes(column))
    ) {
      return [column, Number(cell)];
    }
    if (Array.isArray(cell) && forms.some(({ lists }) => lists?.includes(column))) {
      return [column, withoutNulls(cell)];
    }
    throw new UserError(`${at}: expected text, found ${describe(cell)}`);
  });
  return rows.check(Object.fromEntries(value), line);
}

/** Lists of records as Parquet has them: a key that only other records have is null there. */
function withoutNulls(cell: unknown): unknown {
  if (Array.isArray(cell)) return cell.map(withoutNulls);
  if (typeof cell !== 'object' || cell === null || Object.getPrototypeOf(cell) !== Object.prototype)
    return cell;
  const entries = Object.entries(cell).map(([key, value]) => [key, withoutNulls(value)] as const);
  return Object.fromEntries(entries.filter(([key, value]) => key === 'content' || (value ?? null) !== null));
}
