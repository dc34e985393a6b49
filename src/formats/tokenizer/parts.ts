/** How a part of tokenizer.json is read: by its `type`, out of a table of schemas. */
import * as z from 'zod';

/** By `type`: checks the part's other keys and makes it. */
export type PartTable<T> = Readonly<Record<string, z.ZodType<T>>>;

/** A part out of `table`. `what` names the kind of part in errors; the table may use the result (a Sequence does). */
export function partSchema<T>(what: string, table: () => PartTable<T>): z.ZodType<T> {
  return z.looseObject({ type: z.string().max(100) }).transform((json, context): T => {
    const kinds = table();
    if (!Object.hasOwn(kinds, json.type)) {
      context.addIssue({
        code: 'custom',
        path: ['type'],
        message: `the ${what} "${json.type}" is not supported, expected ${Object.keys(kinds).join(', ')}`,
      });
      return z.NEVER;
    }
    const result = kinds[json.type].safeParse(json);
    if (result.success) return result.data;
    for (const { path, message } of result.error.issues) {
      context.addIssue({ code: 'custom', path: [...path], message: message.replace(/^Invalid input: /, '') });
    }
    return z.NEVER;
  });
}

/** A single character. */
export const character = z
  .string()
  .max(2)
  .refine((text) => [...text].length === 1, { error: 'expected one character' });

/** Text that a part makes longer is bounded: by this many units, and so many for each unit of the text before. */
const MOST_UNITS = 1 << 20;
const MOST_GROWTH = 32;

/** Text grew beyond all measure. */
export class TooLong extends Error {}

/** How long a text of `length` units may become on its way through the parts. */
export function longest(length: number): number {
  return MOST_UNITS + MOST_GROWTH * length;
}

/** @throws TooLong when `length` is more than `limit`. */
export function checkLength(length: number, limit: number): void {
  if (length > limit) throw new TooLong(`the text grows to ${length} characters`);
}
