/** The forms in which rows of preferences come, this toolkit's, TRL's and LLaMA-Factory's, and what is read of each. */
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson } from '../../formats/io/json.js';
import { type Fields, type Form, type Forms, jsonText } from './form.js';
import { type RowContent, TEXT_FORMS } from './forms.js';

/** Two answers to one prompt, each as the row of text that it would be alone. Only the answer is learned of each. */
export interface PairContent {
  kind: 'pairs of texts' | 'pairs of messages' | 'pairs of instructions';
  chosen: RowContent;
  rejected: RowContent;
}

const SIDES = ['chosen', 'rejected'] as const;
type Side = (typeof SIDES)[number];

const texts = z.looseObject({ chosen: z.string(), rejected: z.string() });
const prompted = texts.extend({ prompt: z.string() });
// The turns themselves are checked as messages are.
const turns = z.array(z.unknown(), { error: 'expected a list of messages, as the other answer is' }).min(1);
const conversations = z.looseObject({ chosen: turns, rejected: turns });

/** TRL's: a prompt and two answers, texts or lists of messages; of texts beside lists, these have the prompt in them. */
const pair: Form<PairContent> = {
  needs: ['prompt', 'chosen', 'rejected'],
  may: ['tools'],
  json: ['tools'],
  lists: ['prompt', 'chosen', 'rejected'],
  read(place, given) {
    const record = withLists(given, ['prompt', ...SIDES]);
    const { prompt } = record;
    if (!SIDES.some((side) => Array.isArray(record[side]))) {
      if (Array.isArray(prompt)) {
        // An answer as a text is one turn.
        const turn = (side: Side) => [{ role: 'assistant', content: checkJson(place, record, texts)[side] }];
        return answered(place, record, prompt, { chosen: turn('chosen'), rejected: turn('rejected') });
      }
      const { chosen, rejected } = checkJson(place, record, prompted);
      return textPair(prompt as string, chosen, rejected);
    }
    const sides = checkJson(place, record, conversations);
    if (Array.isArray(prompt)) return answered(place, record, prompt, sides);
    checkJson(place, record, z.looseObject({ prompt: z.string() }));
    if ((sides.chosen[0] as { role?: unknown } | null)?.role !== 'assistant')
      return unprompted(place, record, sides);
    return answered(place, record, [{ role: 'user', content: prompt }], sides);
  },
};

/** TRL's implicit prompt: what the two have in common at their beginning. */
const implicit: Form<PairContent> = {
  needs: [...SIDES],
  may: ['tools'],
  json: ['tools'],
  lists: [...SIDES],
  // Another form says what stands before the answers.
  renders: () => true,
  read(place, given) {
    const record = withLists(given, SIDES);
    if (SIDES.some((side) => Array.isArray(record[side]))) {
      return unprompted(place, record, checkJson(place, record, conversations));
    }
    const { chosen, rejected } = checkJson(place, record, texts);
    const common = commonWords(chosen, rejected);
    if (common === 0) {
      throw new UserError(
        `${place}: "chosen" and "rejected" have no beginning in common that could be the prompt; give it as "prompt"`,
      );
    }
    return textPair(chosen.slice(0, common), chosen.slice(common), rejected.slice(common));
  },
};

/** LLaMA-Factory's of ShareGPT: each answer is one more turn. */
const shareGpt: Form<PairContent> = {
  needs: ['conversations', ...SIDES],
  may: ['system', 'tools'],
  json: ['conversations', 'tools', ...SIDES],
  read(place, record) {
    const earlier = record.conversations;
    if (!Array.isArray(earlier))
      throw new UserError(`${place}: key "conversations": expected a list of turns`);
    const side = (name: Side) => {
      const turn = record[name];
      if (typeof turn !== 'object' || turn === null || Array.isArray(turn)) {
        throw new UserError(`${place}: key "${name}": expected one turn, as {"from": "gpt", "value": "..."}`);
      }
      return textForm('conversations').read(`${place}, ${name}`, {
        ...record,
        conversations: [...earlier, turn],
      });
    };
    return behind(place, earlier.length + (record.system ? 1 : 0), side('chosen'), side('rejected'));
  },
};

/** LLaMA-Factory's of Alpaca. */
const instructions: Form<PairContent> = {
  needs: ['instruction', ...SIDES],
  may: ['input', 'system', 'history'],
  json: ['history'],
  read(place, record) {
    const side = (name: Side) =>
      textForm('instruction').read(place, { ...record, output: checkJson(place, record, texts)[name] });
    return { kind: 'pairs of instructions', chosen: side('chosen'), rejected: side('rejected') };
  },
};

/** Those that preferences are learned from. */
export const PAIR_FORMS: Forms<PairContent> = [pair, shareGpt, instructions, implicit];

function textForm(key: string): Form<RowContent> {
  return TEXT_FORMS.find(({ needs }) => needs[0] === key)!;
}

function textPair(prompt: string, chosen: string, rejected: string): PairContent {
  const side = (completion: string) => ({ kind: 'completion' as const, prompt, completion });
  return { kind: 'pairs of texts', chosen: side(chosen), rejected: side(rejected) };
}

/** Answers behind a prompt of messages. */
function answered(
  place: string,
  record: Fields,
  prompt: readonly unknown[],
  sides: Readonly<Record<Side, readonly unknown[]>>,
): PairContent {
  const side = (name: Side) =>
    textForm('messages').read(`${place}, "prompt" and "${name}"`, {
      tools: record.tools,
      messages: [...prompt, ...sides[name]],
    });
  return behind(place, prompt.length, side('chosen'), side('rejected'));
}

/** Whole conversations: the prompt is the turns in which they begin alike. */
function unprompted(
  place: string,
  record: Fields,
  { chosen, rejected }: Readonly<Record<Side, readonly unknown[]>>,
): PairContent {
  let common = 0;
  const most = Math.min(chosen.length, rejected.length) - 1;
  while (common < most && isDeepStrictEqual(chosen[common], rejected[common])) common++;
  const prompt = chosen.slice(0, common);
  return answered(place, record, prompt, { chosen: chosen.slice(common), rejected: rejected.slice(common) });
}

/** Masks what stands before the two answers. Throws UserError where no answer begins there. */
function behind(place: string, count: number, chosen: RowContent, rejected: RowContent): PairContent {
  const side = (name: Side, row: RowContent): RowContent => {
    if (row.kind !== 'messages') return row;
    if (row.messages[count]?.role !== 'assistant') {
      throw new UserError(
        `${place}: key "${name}": expected a turn of the assistant behind the prompt, found one of the ${row.messages[count]?.role}`,
      );
    }
    const before = row.messages.flatMap(({ role }, i) => (i < count && role === 'assistant' ? [i] : []));
    const masked = [...new Set([...before, ...(row.masked ?? [])])];
    return { ...row, ...(masked.length > 0 && { masked }) };
  };
  return {
    kind: 'pairs of messages',
    chosen: side('chosen', chosen),
    rejected: side('rejected', rejected),
  };
}

/** Characters of the beginning that two texts share, up to where its last whole word ends. */
function commonWords(a: string, b: string): number {
  let common = 0;
  while (common < Math.min(a.length, b.length) && a[common] === b[common]) common++;
  // A blank belongs to the word behind it.
  return Math.max(0, a.slice(0, common).search(/\s+\S*$/));
}

const spokenTurns = z
  .array(
    z.looseObject({
      role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
      content: z.union([z.string(), z.array(z.unknown()), z.null()]),
    }),
  )
  .min(1);

/** Messages in a table without lists, as CSV, are JSON text in each of the cells. */
function withLists(record: Fields, keys: readonly string[]): Fields {
  const parsed = keys.map((key) => [key, listIn(record[key])] as const);
  const answers = parsed.filter(([key]) => key !== 'prompt');
  if (answers.some(([, list]) => list === undefined)) return record;
  const lists = parsed.flatMap(([key, list]) => (list === undefined ? [] : [[key, list] as const]));
  return { ...record, ...Object.fromEntries(lists) };
}

function listIn(text: unknown): unknown {
  if (typeof text !== 'string' || !/^\s*\[\s*\{/.test(text)) return undefined;
  try {
    const value = jsonText('', text, 'messages');
    return spokenTurns.safeParse(value).success ? value : undefined;
  } catch {
    return undefined;
  }
}
