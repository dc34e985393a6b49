/** Pieces of a text on their way to the model, and how a pattern's matches part them. */

/** A part of the text, as the normalizer and the pre-tokenizers before have changed it. */
export interface Piece {
  readonly text: string;
  /**
   * How many of its first UTF-16 units come from the very first character of the text that is encoded; 0 for all
   * pieces but the first ones. Metaspace's scheme "first" asks for it.
   */
  readonly lead: number;
}

/** A text cut into ranges without a gap: where each ends, and whether the pattern matched it. */
export interface Cover {
  readonly ends: readonly number[];
  readonly hits: readonly boolean[];
}

/** What becomes of a delimiter: the five behaviours of the format, under their names in tokenizer.json. */
export const BEHAVIORS = [
  'Removed',
  'Isolated',
  'MergedWithPrevious',
  'MergedWithNext',
  'Contiguous',
] as const;
export type Behavior = (typeof BEHAVIORS)[number];

/** Units `start` to `end` of a piece. */
export function slicePiece({ text, lead }: Piece, start: number, end: number): Piece {
  return { text: text.slice(start, end), lead: Math.max(0, Math.min(lead, end) - start) };
}

/** The pieces of `piece` under `behavior`; empty ones are left out. `invert` takes what lies between for the matches. */
export function partPiece(piece: Piece, cover: Cover, behavior: Behavior, invert = false): Piece[] {
  const pieces: Piece[] = [];
  const add = (start: number, end: number) => {
    if (start < end) pieces.push(slicePiece(piece, start, end));
  };
  for (const [start, end] of ranges(cover, behavior, invert)) add(start, end);
  return pieces;
}

function ranges({ ends, hits }: Cover, behavior: Behavior, invert: boolean): [number, number][] {
  const all = ends.map((end, i) => ({ start: i === 0 ? 0 : ends[i - 1], end, hit: hits[i] !== invert }));
  switch (behavior) {
    case 'Removed':
      return all.filter((range) => !range.hit).map(({ start, end }) => [start, end]);
    case 'Isolated':
      return all.map(({ start, end }) => [start, end]);
    case 'Contiguous':
      return merged(all, (hit, before) => hit === before);
    case 'MergedWithPrevious':
      return merged(all, (hit, before) => hit && !before);
    case 'MergedWithNext':
      // The same from the other end.
      return merged(
        all.reverse().map(({ start, end, hit }) => ({ start: -end, end: -start, hit })),
        (hit, before) => hit && !before,
      )
        .map(([start, end]): [number, number] => [-end, -start])
        .reverse();
  }
}

/** Joins a range to the one before it where `joins` says so; there is no match before the first. */
function merged(
  all: readonly { start: number; end: number; hit: boolean }[],
  joins: (hit: boolean, before: boolean) => boolean,
): [number, number][] {
  const out: [number, number][] = [];
  let before = false;
  for (const { start, end, hit } of all) {
    const last = out.at(-1);
    if (last !== undefined && joins(hit, before)) last[1] = end;
    else out.push([start, end]);
    before = hit;
  }
  return out;
}
