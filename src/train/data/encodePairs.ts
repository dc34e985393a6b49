/** Rows of preferences to pairs of sequences. */
import { UserError } from '../../base/errors.js';
import type { Tokenizer } from '../../formats/tokenizerCore.js';
import type { Encoding } from './cache.js';
import {
  countTokens,
  cutSequence,
  type EncodeRowsOptions,
  type EncodeStats,
  emptyStats,
  isEmpty,
  refuseNone,
  rowEncoder,
  type Sequence,
} from './encode.js';
import type { PairContent } from './pairForms.js';
import type { Pair } from './pairs.js';
import type { Row } from './row.js';

const SIDES = ['chosen', 'rejected'] as const;

/**
 * Encodes each answer behind its prompt as encodeEach does a row: the answer's tokens are the targets, with the one that
 * ends it. A pair of which one answer has no target within the limit is left out.
 * @throws UserError as encodeEach; where prompts are to be learned too; where a chat template writes the turns of an answer
 * as several sequences.
 */
export async function* encodePairs(
  rows: AsyncIterable<Row<PairContent>>,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): Encoding<Pair> {
  if (options.lossOn === 'all') {
    throw new UserError('lossOn "all" is not for preferences: of a pair its two answers are learned');
  }
  const stats = emptyStats();
  const encode = rowEncoder(tokenizer, options, stats);
  for await (const row of rows) {
    stats.rows++;
    const { line, source } = row;
    const place = `${source ?? options.source ?? 'the data'} line ${line}`;
    const sides = SIDES.map((side) => {
      const sequences = encode({ ...row[side], line, source });
      if (sequences.length <= 1) return sequences[0];
      throw new UserError(
        `${place}: key "${side}": the chat template writes earlier turns another way once the conversation goes on, so that its ` +
          'answers are no one text; leave one answer behind the prompt',
      );
    });
    const example = pairOf(sides, line, options.maxLength, stats);
    if (SIDES.some((side) => isEmpty(row[side]))) stats.empty++;
    if (sides.some((side) => side && tokenizer.startsTwice(side.ids))) stats.startedTwice++;
    if (example) yield example;
  }
  refuseNone(stats, options);
  return stats;
}

/** A pair within the limit, counted; undefined where one side has nothing to learn. */
function pairOf(
  sides: readonly (Sequence | undefined)[],
  line: number,
  maxLength: number,
  stats: EncodeStats,
): Pair | undefined {
  const cuts = sides.map((side) => {
    if (!side) return undefined;
    stats.longest = Math.max(stats.longest, side.ids.length);
    return cutSequence(side, maxLength, line);
  });
  const [chosen, rejected] = cuts;
  if (!chosen || !rejected) {
    stats.dropped++;
    if (sides.includes(undefined)) stats.unanswered++;
    return undefined;
  }
  if (chosen.truncated || rejected.truncated) stats.truncated++;
  else if (sides.some((side) => !side!.ended)) stats.unended++;
  if (String(chosen.example.ids) === String(rejected.example.ids)) stats.alike++;
  stats.examples++;
  countTokens(stats, chosen.example);
  countTokens(stats, rejected.example);
  return { chosen: chosen.example, rejected: rejected.example, line };
}
