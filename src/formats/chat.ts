/**
 * Chat templates: a conversation to the text that the model was trained on, and which parts of that text
 * the model itself has to produce. Templates are Jinja, rendered as transformers' apply_chat_template does.
 */
import * as z from 'zod';
import { messageOf, UserError } from '../base/errors.js';
import { GrowingList } from './jinja/growing.js';
import { compileJinja, type JinjaTemplate } from './jinja/template.js';

/** One turn. Further keys (tool_calls, name, reasoning_content …) reach the template as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string | null;
  readonly [key: string]: unknown;
}

/** The templates of a model, or those that come with an adapter. */
export interface ChatTemplates {
  readonly plain?: string;
  /** For chats with tools, where it is another: the one called tool_use. */
  readonly toolUse?: string;
  /** The file that they stand in, which errors then name. */
  readonly file?: string;
}

/** How tokenizer_config.json has them: one, or several by their names. */
export const listedTemplatesSchema = z
  .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
  .nullish();

/** Those that are used of them; undefined where there are none. */
export function listedTemplates(
  listed: z.output<typeof listedTemplatesSchema>,
  file?: string,
): ChatTemplates | undefined {
  if ((listed ?? null) === null) return undefined;
  if (typeof listed === 'string') return { plain: listed, file };
  const named = (wanted: string) => listed!.find(({ name }) => name === wanted)?.template;
  return { plain: named('default'), toolUse: named('tool_use'), file };
}

/** Throws UserError that begins with `place` where the text is no template. */
export function checkTemplate(text: string, place: string): void {
  try {
    compiled(text);
  } catch (error) {
    throw new UserError(`${place}: ${messageOf(error)}`);
  }
}

/** What a template may ask for besides the messages. */
export interface ChatOptions {
  /** Ends the text where the assistant's answer begins. Default false. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of the functions that the model may call. Default none. */
  tools?: readonly unknown[];
  /** Text of the special tokens; undefined in the template when left out. */
  bosToken?: string;
  eosToken?: string;
  /** The further ones that are named, as the template knows them: `unk_token`, `pad_token` … */
  namedTokens?: Readonly<Record<string, string>>;
  /** The file that the template stands in, which errors then name. */
  templateFile?: string;
  /** Further variables of this template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
  /** What a template that writes today's date takes for today. Default: now. */
  now?: Date;
  /** Names the conversation in errors, e.g. "train.jsonl line 7". Default "the chat template". */
  place?: string;
}

/**
 * The text of `messages`. Special tokens are in it as text, BOS too where the template writes it: encode it
 * with `addSpecialTokens: false`. Text in a message that spells a special token becomes that token.
 * @throws UserError when the template cannot be read, refuses the messages (its `raise_exception`), or uses
 * what would not be rendered as in Python (see jinja.ts). `{% generation %}` markers are dropped.
 */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): string {
  return rendered(template, listOf(messages), messages.length, options);
}

/** Messages as transformers gives them to a template: without keys that are null, reasoning under all its names. */
function listOf(messages: readonly ChatMessage[]): GrowingList {
  return new GrowingList(
    messages.map((message) => {
      const entries = Object.entries(message).filter(([, value]) => (value ?? null) !== null);
      const given = Object.fromEntries(entries);
      const named = REASONING.find((name) => given[name] !== undefined);
      return named ? { thinking: given[named], ...given, reasoning_content: given[named] } : given;
    }),
  );
}

/** The names that reasoning comes under, the one that templates read first. */
const REASONING = ['reasoning_content', 'thinking', 'reasoning'];

/** Renders the first `count` messages. Other options than `addGenerationPrompt` must be the same for all of one list. */
function rendered(template: string, list: GrowingList, count: number, options: ChatOptions): string {
  const { addGenerationPrompt = false, tools = null, templateFile } = options;
  try {
    return compiled(template)({
      variables: {
        ...options.namedTokens,
        bos_token: options.bosToken,
        eos_token: options.eosToken,
        documents: null,
        ...options.variables,
        tools,
        add_generation_prompt: addGenerationPrompt,
      },
      growing: { name: 'messages', list, count, kind: String(addGenerationPrompt) },
      now: options.now ?? new Date(),
    });
  } catch (error) {
    const places = [options.place, templateFile].filter((place) => place !== undefined);
    throw new UserError(`${places.join(': ') || 'the chat template'}: ${messageOf(error)}`);
  }
}

let latest: { text: string; render: JinjaTemplate } | undefined;

/** A data set renders one template thousands of times: the latest one is kept. */
function compiled(text: string): JinjaTemplate {
  if (latest?.text !== text) latest = { text, render: compileJinja(text) };
  return latest.render;
}

/** A piece of a conversation's text; `supervised` when the model has to produce it. */
export interface ChatSegment {
  readonly text: string;
  readonly supervised: boolean;
}

export interface ChatSegmentOptions extends Omit<ChatOptions, 'addGenerationPrompt'> {
  /** The texts of the tokens that end the model's turn (of Tokenizer.eosIds). */
  endOfTurn: readonly string[];
  /** Turns of the assistant, from 0, that the model only reads. */
  masked?: readonly number[];
  /** The text of a token to end a turn with that the template does not end. */
  addedEnd?: string;
}

/**
 * Splits a conversation into what the model reads and what it has to say. Supervised is, for each assistant
 * turn, what follows the text that generation would start from, up to and with the first end-of-turn token;
 * what the template writes after that token (a newline) the model never has to produce.
 *
 * The result is usually one sequence of segments. A template that writes an earlier turn another way once
 * the conversation goes on (Qwen3 drops the reasoning of past turns) gives one more sequence wherever that
 * happens, so that every turn is learned behind the very text that generation would give the model.
 * Empty when there is no assistant turn to learn.
 * @throws UserError, naming `place`, when an assistant turn does not begin with its generation prompt.
 */
export function chatSegments(
  template: string,
  messages: readonly ChatMessage[],
  options: ChatSegmentOptions,
): ChatSegment[][] {
  const place = options.place ?? 'the chat template';
  const list = listOf(messages);
  const now = options.now ?? new Date();
  const render = (count: number, addGenerationPrompt: boolean) =>
    rendered(template, list, count, { ...options, now, addGenerationPrompt });
  const sequences: ChatSegment[][] = [];
  let done = '';
  for (const [i, message] of messages.entries()) {
    if (message.role !== 'assistant' || options.masked?.includes(i)) continue;
    const turn = `message ${i + 1} (assistant)`;
    if (i === 0) throw new UserError(`${place}: ${turn} comes first, so there is nothing that it answers`);
    const prompt = render(i, true);
    const answered = render(i + 1, false);
    if (!answered.startsWith(prompt)) {
      throw new UserError(
        `${place}: the chat template writes ${turn} another way than it asks for it, ` +
          `so it cannot be trained on: after ${quoteEnd(commonPrefix(prompt, answered))} ` +
          `generation starts from ${quoteStart(prompt, answered)}, the turn has ${quoteStart(answered, prompt)}`,
      );
    }
    const said = untilEndOfTurn(answered.slice(prompt.length), options);
    if (sequences.length === 0 || !prompt.startsWith(done)) {
      sequences.push([]);
      done = '';
    }
    sequences[sequences.length - 1].push(
      { text: prompt.slice(done.length), supervised: false },
      { text: said, supervised: true },
    );
    done = prompt + said;
  }
  return sequences;
}

function untilEndOfTurn(text: string, { endOfTurn, addedEnd = '' }: ChatSegmentOptions): string {
  let end = text.length;
  let first = text.length;
  for (const token of endOfTurn) {
    const at = text.indexOf(token);
    if (at !== -1 && at < first) [first, end] = [at, at + token.length];
  }
  if (first === text.length) return text + addedEnd;
  return text.slice(0, end);
}

function commonPrefix(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

const quoteEnd = (text: string) => JSON.stringify(text.slice(-30));
/** The beginning of where `text` leaves `other`. */
const quoteStart = (text: string, other: string) =>
  JSON.stringify(text.slice(commonPrefix(text, other).length).slice(0, 30));

/**
 * The one of `tokens`, special or only added, that the template writes directly after an assistant turn: the model ends
 * its turn with it, whatever the tokenizer calls its EOS. Undefined when the template cannot tell.
 */
export function endOfTurnToken(
  template: string,
  tokens: Iterable<string>,
  options: Pick<ChatOptions, 'bosToken' | 'eosToken'>,
): string | undefined {
  const answer = 'the assistant says this';
  let text: string;
  try {
    text = renderChat(template, [userTurn, { role: 'assistant', content: answer }], options);
  } catch {
    return undefined;
  }
  const at = text.lastIndexOf(answer);
  const after = at === -1 ? '' : text.slice(at + answer.length).trimStart();
  return [...tokens]
    .filter((token) => token !== '' && after.startsWith(token))
    .sort((a, b) => b.length - a.length)
    .at(0);
}

const userTurn: ChatMessage = { role: 'user', content: 'the user asks this' };
