/** Rows as questions: what a model is asked, and the answer that the row has. */
import { UserError } from '../../base/errors.js';
import { type ChatMessage, renderChat } from '../../formats/chat.js';
import type { Tokenizer } from '../../formats/tokenizerCore.js';
import type { Reading } from '../objective.js';
import { emptyStats } from './encode.js';
import { type RowContent, TEXT_FORMS } from './forms.js';
import { instructionAsMessages, instructionAsPrompt } from './instruction.js';
import type { Row } from './rows.js';

/** A question with the answer that is wanted. */
export interface Asked {
  /** The text before the answer, or the conversation. */
  prompt: string | readonly ChatMessage[];
  /** Its tokens: those that stand before the answer where the row is learned. */
  ids: readonly number[];
  reference: string;
  /** Of the row, from 1, and its file where it comes from one. */
  line: number;
  source?: string;
}

/**
 * Reads rows as questions: of prompt and completion, of instruction and output, and of messages, of which the last turn of
 * the assistant that is learned and says something is the answer. The first `limit` questions are enough. `maxLength` is
 * how many tokens a question and the first token of its answer have room for; longer ones are dropped and counted. Throws
 * UserError for rows of text, which ask nothing, and where no row gives a question.
 */
export function askedReading(limit = Number.POSITIVE_INFINITY): Reading<Asked, RowContent> {
  return {
    forms: TEXT_FORMS,
    async *encode(rows, tokenizer, { maxLength, source = 'the data' }) {
      const stats = emptyStats();
      for await (const row of rows) {
        stats.rows++;
        const asked = askedIn(row, tokenizer, source);
        if (!asked) {
          stats.dropped++;
          stats.unanswered++;
          continue;
        }
        stats.longest = Math.max(stats.longest, asked.ids.length);
        if (asked.ids.length >= maxLength) {
          stats.dropped++;
          continue;
        }
        stats.examples++;
        yield asked;
        if (stats.examples === limit) break;
      }
      if (stats.examples > 0) return stats;
      throw new UserError(
        stats.unanswered === stats.rows
          ? `${source}: no row has an answer of the assistant to compare with`
          : `${source}: no prompt of the ${stats.rows} rows leaves room for an answer within ${maxLength} tokens`,
      );
    },
  };
}

/** The question of a row; undefined for a conversation that nobody answers. */
function askedIn(row: Row, tokenizer: Tokenizer, source: string): Asked | undefined {
  const { line } = row;
  const named = row.source === undefined ? {} : { source: row.source };
  const place = `${row.source ?? source} line ${line}`;
  const text = ({ prompt, completion }: { prompt: string; completion: string }): Asked => {
    const ids = tokenizer.encode(prompt);
    if (ids.length === 0) throw new UserError(`${place}: the prompt is empty: there is nothing to answer`);
    return { prompt, ids, reference: completion, line, ...named };
  };
  const chat = ({ messages, tools, masked }: Conversation): Asked | undefined => {
    const last = messages.findLastIndex(
      ({ role, content }, i) => role === 'assistant' && !masked?.includes(i) && (content ?? '').trim() !== '',
    );
    if (last < 0) return undefined;
    const template = tokenizer.templateFor(tools);
    if (template === undefined) {
      throw new UserError(
        `${place} is a row of messages, but the model has no chat template to write them with`,
      );
    }
    const prompt = messages.slice(0, last);
    const options = { addGenerationPrompt: true, tools, ...tokenizer.texts(), place };
    const ids = tokenizer.encode(renderChat(template, prompt, options), { addSpecialTokens: false });
    return { prompt, ids, reference: messages[last].content!, line, ...named };
  };
  switch (row.kind) {
    case 'completion':
      return text(row);
    case 'instruction':
      return tokenizer.chatTemplate === undefined
        ? text(instructionAsPrompt(row))
        : chat(instructionAsMessages(row));
    case 'messages':
      return chat(row);
    case 'text':
      throw new UserError(
        `${place} is a row of text, which has no answer to compare with: give rows of prompt and completion, instruction and output, or messages`,
      );
  }
}

type Conversation = Pick<Extract<RowContent, { kind: 'messages' }>, 'messages' | 'tools' | 'masked'>;
