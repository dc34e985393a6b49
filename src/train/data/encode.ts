/** Rows to token ids, and which of them the model learns to produce. */
import { UserError } from '../../base/errors.js';
import { type ChatSegment, chatSegments, renderChat } from '../../formats/chat.js';
import type { Tokenizer } from '../../formats/tokenizerCore.js';
import type { RowContent } from './forms.js';
import { instructionAsMessages, instructionAsPrompt } from './instruction.js';
import type { Row } from './rows.js';
import { holds, UnreadKeys } from './unread.js';

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
  /** Ends a turn of the assistant with EOS where the chat template writes no end of its own. */
  addEos?: boolean;
  /** Further variables of the chat template, such as `enable_thinking`. */
  templateVariables?: Readonly<Record<string, unknown>>;
  /** Names the rows in errors, usually the file; a row's own source wins over it. */
  source?: string;
}

/** Counts of what was encoded; those that an objective has no use for stay 0. */
export interface EncodeStats {
  rows: number;
  examples: number;
  /** Examples cut to maxLength, dropped ones not counted. */
  truncated: number;
  /** Sequences left out because nothing in them is a target: those of a prompt longer than maxLength, and unanswered rows. */
  dropped: number;
  /** Rows of messages without a turn of the assistant to learn. */
  unanswered: number;
  /** Sequences whose last turn has no end that is learned: behind it the model does not learn to stop. */
  unended: number;
  /** Rows of which only the end is learned: their completion is empty. */
  empty: number;
  /** Rows of text that spell the token which the tokenizer puts before each text too: it stands there twice. */
  startedTwice: number;
  /** Pairs whose two answers are the same: nothing is learned of which is better. */
  alike: number;
  /** Turns to learn of which the chat template leaves something out. */
  cutTurns: number;
  /** Keys of conversations that the chat template does not read. */
  unread: string[];
  /** Tokens of all examples. */
  tokens: number;
  supervisedTokens: number;
  /** Tokens of the longest sequence before it was cut. */
  longest: number;
}

/** Before the first row. */
export function emptyStats(): EncodeStats {
  return {
    rows: 0,
    examples: 0,
    truncated: 0,
    dropped: 0,
    unanswered: 0,
    unended: 0,
    empty: 0,
    startedTwice: 0,
    alike: 0,
    cutTurns: 0,
    unread: [],
    tokens: 0,
    supervisedTokens: 0,
    longest: 0,
  };
}

/** A sequence before it is cut. */
export interface Sequence {
  ids: number[];
  supervised: boolean[];
  /** Whether it says where the model has to stop. */
  ended: boolean;
}

/**
 * Encodes rows one after the other, so that training sees the very ids that generation will see:
 * - `prompt`, `completion`: each encoded by itself and put one behind the other, so that no token spans the
 *   boundary, with the tokenizer's BOS before and its EOS behind, unless the completion spells one at its end.
 *   Learned: completion and EOS.
 * - `text`: BOS, the text, EOS (unless the text spells one at its end). Learned: everything.
 * - `messages`: the chat template's text in the pieces of chatSegments, no token across their boundaries.
 *   Learned: the assistant's turns with their end-of-turn tokens, masked ones aside. One row may give several sequences.
 * - `instruction`: as messages where the model has a chat template, else as prompt and completion (instruction.ts).
 * With lossOn 'all' everything is learned. What stands behind the last target is left out.
 * @throws UserError when a row cannot be rendered, when the model lacks a chat template or an EOS that the
 * rows need, when no row has anything to learn.
 */
export async function* encodeEach(
  rows: AsyncIterable<Row> | Iterable<Row>,
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
): AsyncGenerator<Example, EncodeStats, void> {
  const stats = emptyStats();
  const encode = rowEncoder(tokenizer, options, stats);
  for await (const row of rows) {
    stats.rows++;
    const sequences = encode(row);
    if (sequences.length === 0) {
      stats.dropped++;
      stats.unanswered++;
    }
    if (isEmpty(row)) stats.empty++;
    if (sequences.some(({ ids }) => tokenizer.startsTwice(ids))) stats.startedTwice++;
    for (const sequence of sequences) {
      stats.longest = Math.max(stats.longest, sequence.ids.length);
      const cut = cutSequence(sequence, options.maxLength, row.line);
      if (!cut) {
        stats.dropped++;
        continue;
      }
      if (cut.truncated) stats.truncated++;
      else if (!sequence.ended) stats.unended++;
      stats.examples++;
      countTokens(stats, cut.example);
      yield cut.example;
    }
  }
  refuseNone(stats, options);
  return stats;
}

/** A sequence up to its last target within the limit; undefined where there is none. */
export function cutSequence(
  { ids, supervised }: Sequence,
  maxLength: number,
  line: number,
): { example: Example; truncated: boolean } | undefined {
  const length = supervised.lastIndexOf(true, maxLength - 1) + 1;
  if (length === 0) return undefined;
  const example = {
    ids: Int32Array.from(ids.slice(0, length)),
    supervised: Uint8Array.from(supervised.slice(0, length), Number),
    line,
  };
  return { example, truncated: supervised.includes(true, maxLength) };
}

/** Counts the tokens of a sequence that is kept. */
export function countTokens(stats: EncodeStats, { ids, supervised }: Example): void {
  stats.tokens += ids.length;
  stats.supervisedTokens += supervised.reduce((sum, target) => sum + target, 0);
}

/** Throws UserError where no row gave an example. */
export function refuseNone(
  { examples, rows, unanswered, longest }: EncodeStats,
  { maxLength, source = SOURCE }: EncodeRowsOptions,
): void {
  if (examples > 0) return;
  if (rows > 0 && unanswered === rows) {
    throw new UserError(`${source}: no row has a turn of the assistant to learn`);
  }
  throw new UserError(
    `${source}: none of the ${rows} rows has anything to learn within ${maxLength} tokens (the longest has ${longest})`,
  );
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

type Encoder = (row: Row) => Sequence[];
type RowOf<K extends Row['kind']> = Extract<Row, { kind: K }>;

/** Names rows that come from no file. */
const SOURCE = 'the data';

/** Encodes one row after the other, as encodeEach has it. Throws UserError where the options are wrong. */
export function rowEncoder(
  tokenizer: Tokenizer,
  options: EncodeRowsOptions,
  stats: Pick<EncodeStats, 'cutTurns' | 'unread'>,
): Encoder {
  const { maxLength, source = SOURCE } = options;
  if (!Number.isInteger(maxLength) || maxLength < 2) {
    throw new UserError(`the maximum length must be a whole number of at least 2 tokens, not ${maxLength}`);
  }
  const all = options.lossOn === 'all';
  const ended = (ids: readonly number[]) =>
    ids.length > 0 && tokenizer.eosIds.includes(ids[ids.length - 1]) ? ids : [...ids, eosOf(tokenizer)];
  const completion = ({ prompt, completion }: Pick<RowOf<'completion'>, 'prompt' | 'completion'>) => {
    const said = tokenizer.encode(completion, { addSpecialTokens: false, after: prompt });
    return [
      sequence([
        { ids: tokenizer.encode(prompt), supervised: all },
        { ids: ended(said), supervised: true },
      ]),
    ];
  };
  const messages =
    tokenizer.chatTemplate !== undefined ? messagesEncoder(tokenizer, options, source, stats) : undefined;
  return (row) => {
    switch (row.kind) {
      case 'text':
        return [sequence([{ ids: ended(tokenizer.encode(row.text)), supervised: true }])];
      case 'completion':
        return completion(row);
      case 'instruction':
        return messages
          ? messages({ ...row, ...instructionAsMessages(row) })
          : completion(instructionAsPrompt(row));
      case 'messages':
        if (messages) return messages(row);
        throw new UserError(
          `${row.source ?? source} has rows of messages, but the model has no chat template to write them with`,
        );
    }
  };
}

function messagesEncoder(
  tokenizer: Tokenizer,
  { lossOn, addEos, templateVariables: variables }: EncodeRowsOptions,
  source: string,
  stats: Pick<EncodeStats, 'cutTurns' | 'unread'>,
): (row: Omit<RowOf<'messages'>, 'kind'>) => Sequence[] {
  const endOfTurn = tokenizer.eosIds.map((id) => tokenizer.tokenOf(id)!);
  const addedEnd = addEos ? tokenizer.tokenOf(eosOf(tokenizer)) : undefined;
  // Behind the end a template may still write a newline.
  const hasEnd = (text: string) => endOfTurn.some((token) => text.trimEnd().endsWith(token));
  const whole = (text: string): ChatSegment[][] => {
    return [[{ text: hasEnd(text) ? text : text + (addedEnd ?? ''), supervised: true }]];
  };
  const unread = new UnreadKeys();
  return ({ messages, tools, masked, line, source: file = source }) => {
    const place = `${file} line ${line}`;
    const template = tokenizer.templateFor(tools)!;
    const context = { ...tokenizer.texts(), tools, variables, place };
    if (lossOn === 'all' && masked) {
      throw new UserError(
        `${place}: a turn says that it is not learned, and lossOn "all" that everything is`,
      );
    }
    const sequences =
      lossOn === 'all'
        ? whole(renderChat(template, messages, context))
        : chatSegments(template, messages, { ...context, endOfTurn, masked, addedEnd });
    const learned = messages.filter((turn, i) => turn.role === 'assistant' && !masked?.includes(i));
    const said = sequences.flat().filter(({ supervised }) => supervised);
    stats.cutTurns += learned.filter((turn, i) => !holds(said[lossOn === 'all' ? 0 : i].text, turn)).length;
    const write = (conversation: Pick<RowOf<'messages'>, 'messages' | 'tools'>) =>
      renderChat(template, conversation.messages, { ...context, tools: conversation.tools });
    stats.unread.push(...unread.of({ messages, tools }, template, write));
    return sequences.map((segments) => {
      let after = '';
      const pieces = segments.map(({ text, supervised }) => {
        const ids = tokenizer.encode(text, { addSpecialTokens: false, after });
        after += text;
        return { ids, supervised };
      });
      return sequence(pieces, hasEnd(after));
    });
  };
}

/** Whether what a row has the model say is one text with nothing in it. */
export function isEmpty(row: RowContent): boolean {
  if (row.kind === 'completion') return row.completion.trim() === '';
  return row.kind === 'instruction' && row.output.trim() === '';
}

/** Joins pieces. Nothing stands before the first token, so it is no target. */
function sequence(
  pieces: readonly { ids: readonly number[]; supervised: boolean }[],
  ended = true,
): Sequence {
  const ids = pieces.flatMap((piece) => piece.ids);
  const supervised = pieces.flatMap((piece) => piece.ids.map(() => piece.supervised));
  if (supervised.length > 0) supervised[0] = false;
  return { ids, supervised, ended };
}

function eosOf({ eosId }: Tokenizer): number {
  if (eosId === undefined) {
    throw new UserError('the tokenizer names no eos_token, which ends each text that is trained on');
  }
  return eosId;
}
