/** What a form of rows is. Each objective has the forms that it reads. */
import { parseExactJson } from '../../formats/io/exactJson.js';
import { EXACT_KEYS } from '../../formats/messages.js';

/** What a row says. Rows of one data set are of one kind. */
export interface Content {
  readonly kind: string;
}

/** A row as it was read, by its keys or columns. */
export type Fields = Readonly<Record<string, unknown>>;

export interface Form<C extends Content = Content> {
  /** The keys of a row; all of them there and not null make it complete. */
  needs: readonly string[];
  /** Further keys that are read where they are there. */
  may?: readonly string[];
  /** Those of both that a table has as JSON text in its cells. */
  json?: readonly string[];
  /** Those that a table has as text or as lists. */
  lists?: readonly string[];
  /** Those that a table has as text or as numbers. */
  numbers?: readonly string[];
  /** Whether this form of the row is only a part of the other form of it, or the text that that makes. */
  renders?(other: Form, record: Fields): boolean;
  /** Checks a row. Throws UserError that begins with `place` and names the key. */
  read(place: string, record: Fields): C;
}

/** All forms that an objective reads, in the order in which errors name them. */
export type Forms<C extends Content = Content> = readonly Form<C>[];

/** JSON text in place of what it stands for, in which numbers for a template are kept as they are written. */
export function jsonText(place: string, text: string, key: string): unknown {
  return parseExactJson(place, text, EXACT_KEYS.includes(key) ? undefined : EXACT_KEYS);
}
