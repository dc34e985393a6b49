/** The forms in which rows of text come, this toolkit's own and other tools', and what is read of each. */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import type { ChatMessage } from '../../formats/chat.js';
import { checkJson } from '../../formats/io/json.js';
import { checkConversation } from '../../formats/messages.js';
import { type Fields, type Form, type Forms, jsonText } from './form.js';
import { fromShareGpt } from './shareGpt.js';

/** What a row says. */
export type RowContent =
  | {
      kind: 'messages';
      messages: readonly ChatMessage[];
      tools?: readonly unknown[];
      /** Turns of the assistant, from 0, that are read and not learned. */
      masked?: readonly number[];
    }
  | { kind: 'completion'; prompt: string; completion: string }
  | { kind: 'instruction'; system?: string; instruction: string; input: string; output: string }
  | { kind: 'text'; text: string };

const messages: Form<RowContent> = {
  needs: ['messages'],
  may: ['tools'],
  json: ['messages', 'tools'],
  read(place, record) {
    const parsed = ['messages', 'tools'].map((key) => {
      const value = record[key];
      return [key, typeof value === 'string' ? jsonText(`${place}: key "${key}"`, value, key) : value];
    });
    return conversation(place, { ...record, ...Object.fromEntries(parsed) });
  },
};

const completionSchema = z.looseObject({ prompt: z.string(), completion: z.string() });
const completion: Form<RowContent> = {
  needs: ['prompt', 'completion'],
  may: ['tools'],
  json: ['tools'],
  lists: ['prompt', 'completion'],
  read(place, record) {
    if (Array.isArray(record.prompt) || Array.isArray(record.completion)) return exchange(place, record);
    const { prompt, completion } = checkJson(place, record, completionSchema);
    return { kind: 'completion', prompt, completion };
  },
};

const exchangeSchema = z.looseObject({
  prompt: z.array(z.unknown(), { error: 'expected a list of messages, as "completion" is' }).min(1),
  completion: z.array(z.unknown(), { error: 'expected a list of messages, as "prompt" is' }).min(1),
});

/** TRL's conversational form: what is said before, and the turns to learn. */
function exchange(place: string, record: Fields): RowContent {
  const { prompt, completion } = checkJson(place, record, exchangeSchema);
  const row = conversation(place, { ...record, messages: [...prompt, ...completion] });
  if (row.kind !== 'messages') return row;
  const before = row.messages.flatMap(({ role }, i) =>
    i < prompt.length && role === 'assistant' ? [i] : [],
  );
  const masked = [...new Set([...before, ...(row.masked ?? [])])];
  return { ...row, ...(masked.length > 0 && { masked }) };
}

/** Alpaca's. `history` is LLaMA-Factory's: earlier turns, which no prompt of Alpaca's has a place for. */
const instructionSchema = z.looseObject({
  instruction: z.string(),
  input: z.string().default(''),
  output: z.string(),
  system: z.string().optional(),
  history: z
    .array(z.unknown())
    .max(0, 'earlier turns are not read here; write the row as messages')
    .optional(),
});
const instruction: Form<RowContent> = {
  needs: ['instruction', 'output'],
  may: ['input', 'system', 'history'],
  json: ['history'],
  read(place, record) {
    const { instruction, input, output, system } = checkJson(place, record, instructionSchema);
    return { kind: 'instruction', ...(system && { system }), instruction, input, output };
  },
};

/** ShareGPT's, as LLaMA-Factory and axolotl read it too. */
const conversations: Form<RowContent> = {
  needs: ['conversations'],
  may: ['system', 'tools'],
  json: ['conversations', 'tools'],
  read(place, record) {
    return conversation(place, fromShareGpt(place, record));
  },
};

const textSchema = z.looseObject({ text: z.string() });
const text: Form<RowContent> = {
  needs: ['text'],
  renders(other, record) {
    const parts = other.needs.map((key) => record[key]);
    return parts.every((part) => typeof part === 'string' && String(record.text).includes(part));
  },
  read(place, record) {
    return { kind: 'text', text: checkJson(place, record, textSchema).text };
  },
};

/** Those that next-token prediction learns from. */
export const TEXT_FORMS: Forms<RowContent> = [messages, completion, instruction, conversations, text];

function conversation(place: string, record: unknown): RowContent {
  const { messages, tools } = checkConversation(place, record);
  const masked: number[] = [];
  const turns = messages.map(({ weight, train, ...turn }, i) => {
    const learned = isLearned(`${place}: key "messages.${i}`, turn.role, weight, train);
    if (turn.role === 'assistant' && !learned) masked.push(i);
    return turn;
  });
  return { kind: 'messages', messages: turns, ...(tools && { tools }), ...(masked.length > 0 && { masked }) };
}

/** OpenAI's `weight` and axolotl's `train`, which say of one turn whether it is learned. */
function isLearned(place: string, role: string, weight: unknown, train: unknown): boolean {
  const known = (value: unknown, choices: readonly unknown[]) =>
    (value ?? null) === null || choices.includes(value);
  if (!known(weight, [0, 1])) {
    throw new UserError(`${place}.weight": expected 0 or 1, found ${JSON.stringify(weight)}`);
  }
  if (!known(train, [true, false])) {
    throw new UserError(`${place}.train": expected true or false, found ${JSON.stringify(train)}`);
  }
  if (train === true && role !== 'assistant') {
    throw new UserError(
      `${place}.train": only turns of the assistant are learned, this one is the ${role}'s`,
    );
  }
  return weight !== 0 && train !== false;
}
