/** Entities in rows of labelled tokens. Equal to seqeval with its defaults, which are those of conlleval (not strict). */
import { type ClassScores, scores } from './classification.js';

const LABEL = /^(?:O|([BIES])(?:-(.*))?)$/s;

/** What a label without a type is of. */
const UNNAMED = '_';

/** Whether all of `labels` are of IOB2 or IOBES, so that tokens with them make entities: O, B-, I-, E-, S- and a type. */
export function areEntityLabels(labels: readonly string[]): boolean {
  return labels.every((label) => LABEL.test(label)) && labels.some((label) => label !== 'O');
}

export interface EntityScores extends ClassScores {
  /** Of each type of entity that is in the truth or predicted. */
  byType: Record<string, ClassScores>;
}

/**
 * Scores over all entities of all rows: one is found if its type, first and last token are right. Rows are arrays of labels, one
 * a token. What begins without a B begins an entity all the same. Throws RangeError where rows differ in length, and for a
 * label that is none of IOB2 or IOBES.
 */
export function entityScores(
  truth: readonly (readonly string[])[],
  predicted: readonly (readonly string[])[],
): EntityScores {
  if (truth.length !== predicted.length)
    throw new RangeError(`${truth.length} true rows, but ${predicted.length} predicted ones`);
  const counts = new Map<string, { right: number; predicted: number; support: number }>();
  const count = (type: string, what: 'right' | 'predicted' | 'support') => {
    const of = counts.get(type) ?? { right: 0, predicted: 0, support: 0 };
    of[what]++;
    counts.set(type, of);
  };
  truth.forEach((labels, row) => {
    if (labels.length !== predicted[row].length)
      throw new RangeError(
        `row ${row + 1}: ${labels.length} true labels, but ${predicted[row].length} predicted ones`,
      );
    const there = new Set<string>();
    for (const { type, first, last } of entities(labels)) {
      there.add(`${first} ${last} ${type}`);
      count(type, 'support');
    }
    for (const { type, first, last } of entities(predicted[row])) {
      count(type, 'predicted');
      if (there.has(`${first} ${last} ${type}`)) count(type, 'right');
    }
  });
  const all = { right: 0, predicted: 0, support: 0 };
  for (const { right, predicted, support } of counts.values()) {
    all.right += right;
    all.predicted += predicted;
    all.support += support;
  }
  const scoresOf = (of: typeof all) => scores(of.right, of.predicted, of.support);
  const byType = Object.fromEntries([...counts].map(([type, of]) => [type, scoresOf(of)]));
  return { ...scoresOf(all), byType };
}

/** An entity and its tokens, `first` to `last`. */
interface Entity {
  type: string;
  first: number;
  last: number;
}

function entities(labels: readonly string[]): Entity[] {
  const found: Entity[] = [];
  let open: Entity | undefined;
  for (const [at, label] of labels.entries()) {
    const match = LABEL.exec(label);
    if (!match) throw new RangeError(`"${label}" is no label of IOB2 or IOBES`);
    const [, tag, type = ''] = match;
    const named = type || UNNAMED;
    if (tag === undefined) open = undefined;
    else if (open && open.type === named && (tag === 'I' || tag === 'E')) open.last = at;
    else {
      open = { type: named, first: at, last: at };
      found.push(open);
    }
    if (tag === 'E' || tag === 'S') open = undefined;
  }
  return found;
}
