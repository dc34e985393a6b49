/** Rows to token ids, and which of them the model learns to produce. */
import { UserError } from '../../base/errors.js';
import { type ChatSegment, chatSegments, renderChat } from '../../formats/chat.js';
import type { Tokenizer } from '../../formats/tokenizerCore.js';
import type { Row } from './rows.js';

/** One sequence to train on. Its last token is always a target: nothing is learned behind the last one. */
export interface Example {
  ids: Int32Array;
  /** 1 where the token is a target, to be predicted from the ones before it; never the first. */
  supervised: Uint8Array;
  /** The row that it comes from. */
  line: number;
}

export interface EncodeRowsOptions {
  /** The most tokens of an example; what is longer is cut on the right. */
  maxLength: number;
  /** Learn the completion or the assistant's turns only, given what stands before (default), or everything. */
  lossOn?: 'completion' | 'all';
  /** Instead of the tokenizer's own. */
  chatTemplate?: string;
  /** Further variables of the chat template, such as `enable_thinking`. */
  templateVariables?: Readonly<Record<string, unknown>>;
  /** Names the rows in errors, usually the file. */
  source?: string;
}

/** Counts of what was encoded. */
export interface EncodeStats {
  rows: number;
  examples: number;
  /** Examples cut to maxLength, dropped ones not counted. */
  truncated: number;
  /** Sequences left out because nothing in them is a target, e.g. of a prompt longer than maxLength. */
  dropped: number;
  /** Tokens of all examples. */
  tokens: number;
  supervisedTokens: number;
  /** Tokens of the longest sequence before it was cut. */
  longest: number;
}

/** A sequence before it is cut. */
interface Sequence {
  ids: number[];
  supervised: boolean[];
}

/**
 * Encodes rows one after the other, so that training sees the very ids that generation will see:
 * - `prompt`, `completion`: each encoded by itself and put one behind the other, so that no token spans the
 *   boundary, with the tokenizer's BOS before and its EOS behind. Learned: completion and EOS.
 * - `text`: BOS, the text, EOS (unless the text spells one at its end). Learned: everything.
 * - `messages`: the chat template's text in the pieces of chatSegments, no token across their boundaries.
 *   Learned: the assistant's turns with their end-of-turn tokens. One row may give several sequences.
 * With lossOn 'all' everything is learned. What stands behind the last target is left out.
 * @throws UserError when a row cannot be rendered, when the model lacks a chat template or an EOS that the
 * rows need, when no row has anything to learn.
 */
export async function* encodeEach(
  rows: AsyncIterable<Row> | Iterable<Row>,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): AsyncGenerator<Example, EncodeStats, void> {
  const { maxLength, source = 'the data' } = options;
  if (!Number.isInteger(maxLength) || maxLength < 2) {
    throw new UserError(`the maximum length must be a whole number of at least 2 tokens, not ${maxLength}`);
  }
  const encode = encoderOf(tokenizer, options, source);
  const stats: EncodeStats = {
    rows: 0,
    examples: 0,
    truncated: 0,
    dropped: 0,
    tokens: 0,
    supervisedTokens: 0,
    longest: 0,
  };
  for await (const row of rows) {
    stats.rows++;
    const sequences = encode(row);
    if (sequences.length === 0) stats.dropped++;
    for (const { ids, supervised } of sequences) {
      stats.longest = Math.max(stats.longest, ids.length);
      const length = supervised.lastIndexOf(true, maxLength - 1) + 1;
      if (length === 0) {
        stats.dropped++;
        continue;
      }
      if (supervised.includes(true, maxLength)) stats.truncated++;
      const example = {
        ids: Int32Array.from(ids.slice(0, length)),
        supervised: Uint8Array.from(supervised.slice(0, length), Number),
        line: row.line,
      };
      stats.examples++;
      stats.tokens += length;
      stats.supervisedTokens += example.supervised.reduce((sum, target) => sum + target, 0);
      yield example;
    }
  }
  if (stats.examples === 0) {
    throw new UserError(
      `${source}: none of the ${stats.rows} rows has anything to learn within ${maxLength} tokens ` +
        `(the longest has ${stats.longest})`,
    );
  }
  return stats;
}

/** As encodeEach, all at once. */
export async function encodeRows(
  rows: Iterable<Row>,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): Promise<{ examples: Example[]; stats: EncodeStats }> {
  const encoded = encodeEach(rows, tokenizer, options);
  const examples: Example[] = [];
  for (;;) {
    const next = await encoded.next();
    if (next.done) return { examples, stats: next.value };
    examples.push(next.value);
  }
}

function encoderOf(
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
  source: string,
): (row: Row) => Sequence[] {
  const all = options.lossOn === 'all';
  const template = options.chatTemplate ?? tokenizer.chatTemplate;
  const endOfTurn = tokenizer.eosIds.map((id) => tokenizer.tokenOf(id)!);
  return (row) => {
    if (row.kind === 'text') {
      const ids = tokenizer.encode(row.text);
      return [
        sequence([{ ids: endsTurn(ids, tokenizer) ? ids : [...ids, eosOf(tokenizer)], supervised: true }]),
      ];
    }
    if (row.kind === 'completion') {
      const { prompt, completion } = row;
      const said = tokenizer.encode(completion, { addSpecialTokens: false, after: prompt });
      return [
        sequence([
          { ids: tokenizer.encode(prompt), supervised: all },
          { ids: [...said, eosOf(tokenizer)], supervised: true },
        ]),
      ];
    }
    if (template === undefined) {
      throw new UserError(
        `${source} has rows of messages, but the model has no chat template to write them with`,
      );
    }
    const context = {
      ...tokenizer.texts(),
      tools: row.tools,
      variables: options.templateVariables,
      place: `${source} line ${row.line}`,
    };
    const sequences: ChatSegment[][] = all
      ? [[{ text: renderChat(template, row.messages, context), supervised: true }]]
      : chatSegments(template, row.messages, { ...context, endOfTurn });
    return sequences.map((segments) => {
      let after = '';
      return sequence(
        segments.map(({ text, supervised }) => {
          const ids = tokenizer.encode(text, { addSpecialTokens: false, after });
          after += text;
          return { ids, supervised };
        }),
      );
    });
  };
}

/** Joins pieces. Nothing stands before the first token, so it is no target. */
function sequence(pieces: readonly { ids: readonly number[]; supervised: boolean }[]): Sequence {
  const ids = pieces.flatMap((piece) => piece.ids);
  const supervised = pieces.flatMap((piece) => piece.ids.map(() => piece.supervised));
  if (supervised.length > 0) supervised[0] = false;
  return { ids, supervised };
}

function endsTurn(ids: readonly number[], tokenizer: Tokenizer): boolean {
  return ids.length > 0 && tokenizer.eosIds.includes(ids[ids.length - 1]);
}

function eosOf({ eosId }: Tokenizer): number {
  if (eosId === undefined) {
    throw new UserError('the tokenizer names no eos_token, which ends each text that is trained on');
  }
  return eosId;
}
