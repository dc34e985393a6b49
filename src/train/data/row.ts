/** A row of training data, and how one is checked. */
import { nearest, UserError } from '../../base/errors.js';
import type { Content, Fields, Form, Forms } from './form.js';
import type { RowContent } from './forms.js';

/**
 * A row that was checked. `line` counts from 1: lines of a file, or items of an array. `source` is the file where a set
 * has several.
 */
export type Row<C extends Content = RowContent> = C & { line: number; source?: string };

const quoted = (keys: readonly string[]) => keys.map((key) => JSON.stringify(key)).join(' and ');
/** What a row may be, for errors. */
export function formsText(forms: Forms): string {
  return forms.map(({ needs }) => quoted(needs)).join(', or ');
}

/** The form that `names` come nearest to: of those that they begin, the one that most of them belong to. */
export function begunForm<C extends Content>(forms: Forms<C>, names: readonly string[]): Form<C> | undefined {
  const had = (form: Form<C>) => form.needs.filter((key) => names.includes(key)).length;
  return forms.filter((form) => had(form) > 0).sort((a, b) => had(b) - had(a))[0];
}

/** What was found instead of a row's keys or columns, and what may have been meant. */
export function foundNames(forms: Forms, names: readonly string[]): string {
  const known = forms.flatMap(({ needs }) => needs);
  const guess = names.map((name) => nearest(name, known)).find((name) => name !== undefined);
  const hint = guess === undefined ? '' : `, did you mean "${guess}"?`;
  return `${names
    .slice(0, 8)
    .map((name) => JSON.stringify(name))
    .join(', ')}${hint}`;
}

/**
 * Checks one parsed row. Its form is the one whose keys are all there and not null; keys beside those (an id, a
 * source, columns that only other rows have) are let be.
 */
function rowOf<C extends Content>(forms: Forms<C>, value: unknown, line: number, place: string): Row<C> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError(
      `${place}: expected an object with the keys ${formsText(forms)}, found ${describe(value)}`,
    );
  }
  const record = value as Fields;
  const form = formOf(forms, record, place);
  const kept = Object.entries(record).filter(([key, v]) => form.needs.includes(key) || (v ?? null) !== null);
  return { ...form.read(place, Object.fromEntries(kept)), line };
}

function formOf<C extends Content>(forms: Forms<C>, record: Fields, place: string): Form<C> {
  const complete = forms.filter(({ needs }) =>
    needs.every((key) => Object.hasOwn(record, key) && (record[key] ?? null) !== null),
  );
  // Some sets carry each row once more as the text that it makes.
  const found = complete.filter(
    (form) => !complete.some((other) => other !== form && form.renders?.(other, record)),
  );
  if (found.length === 1) return found[0];
  const names = Object.keys(record);
  if (found.length > 1) {
    throw new UserError(
      `${place} is several rows in one: it has ${found.map(({ needs }) => quoted(needs)).join(', and ')}; leave one out`,
    );
  }
  const begun = begunForm(forms, names);
  if (begun) return begun;
  throw new UserError(
    `${place}: expected the keys ${formsText(forms)}, found ${foundNames(forms, names) || 'none'}`,
  );
}

/** What a value is, for errors. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

/** Checks the rows of one source as they come: all of one kind, and at least one. */
export class RowChecker<C extends Content> {
  private first: Row<C> | undefined;

  constructor(
    readonly forms: Forms<C>,
    readonly source: string,
    private readonly unit: 'line' | 'row',
  ) {}

  place(line: number): string {
    return `${this.source} ${this.unit} ${line}`;
  }

  check(value: unknown, line: number): Row<C> {
    const row = rowOf(this.forms, value, line, this.place(line));
    this.first ??= row;
    if (row.kind !== this.first.kind) {
      throw new UserError(
        `${this.place(line)} is a row of ${row.kind}, ${this.unit} ${this.first.line} one of ${this.first.kind}: ` +
          'one data set has rows of one kind',
      );
    }
    return row;
  }

  /** To be called behind the last row. */
  finish(): void {
    if (!this.first) throw new UserError(`${this.source} has no rows`);
  }
}
