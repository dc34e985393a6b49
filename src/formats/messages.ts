/** Conversations as they come from outside: OpenAI's and Hugging Face's messages, with calls of tools and their results. */
import * as z from 'zod';
import { messageOf, UserError } from '../base/errors.js';
import type { ChatMessage } from './chat.js';
import { JsonFloat, parseExactJson } from './io/exactJson.js';
import { checkDepth, checkJson } from './io/json.js';

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool', 'function', 'ipython'] as const;

const toolCall = z.looseObject({
  id: z.string().nullish(),
  type: z.literal('function').nullish(),
  function: z.looseObject({
    name: z.string().min(1),
    arguments: z.union([z.string(), z.record(z.string(), z.unknown()), z.instanceof(Map)], {
      error: 'expected an object or the text of one',
    }),
  }),
});

/** A text, or its parts as OpenAI has them. A model of text reads no others. */
const content = z.union(
  [
    z.string(),
    z
      .array(z.looseObject({ type: z.literal('text'), text: z.string() }))
      .transform((parts) => parts.map(({ text }) => text).join('')),
  ],
  {
    error: ({ input }) => {
      if (!Array.isArray(input)) return `expected string, received ${typeof input}`;
      const other = input.find((part) => part?.type !== 'text' || typeof part.text !== 'string')?.type;
      const found = typeof other === 'string' ? `one of type ${JSON.stringify(other)}` : 'another';
      return `expected parts as {"type": "text", "text": "..."}, found ${found}`;
    },
  },
);

const message = z.looseObject({
  role: z.enum(ROLES),
  content: content.nullish(),
  tool_calls: z.array(toolCall).nullish(),
  tool_call_id: z.string().nullish(),
});

const tool = z.looseObject({
  type: z.literal('function').optional(),
  function: z.looseObject({ name: z.string().min(1) }).optional(),
});

/** The keys of a conversation. */
export const conversationSchema = z.looseObject({
  messages: z.array(message).min(1),
  tools: z.array(tool).nullish(),
});

/** The keys of a row of chats whose numbers a template writes as they came: see parseExactJson. */
export const EXACT_KEYS = ['arguments', 'tools'];

/** A conversation that was checked. */
export interface Conversation {
  messages: ChatMessage[];
  tools?: readonly unknown[];
}

/**
 * Checks a conversation and brings it into the one form that templates are written for: arguments of calls as
 * objects (OpenAI has them as JSON text, which a template's `tojson` would quote once more), no empty `tool_calls`.
 * Further keys stay. Throws UserError that begins with `place` and names the key.
 */
export function checkConversation(place: string, value: unknown): Conversation {
  checkDepth(place, value);
  const { messages, tools } = checkJson(place, value, conversationSchema);
  // What was checked has its known keys first; a template writes them in the order in which they came.
  const given = value as { messages: Turn[]; tools?: readonly unknown[] };
  const called = new Set<string>();
  const checked = messages.map((turn, i): ChatMessage => {
    const at = (key: string) => `${place}: key "messages.${i}.${key}"`;
    const { tool_calls: calls } = turn;
    const { tool_calls: givenCalls, ...rest } = given.messages[i];
    const content = turn.content ?? null;
    if (!calls || calls.length === 0) {
      if (content === null) {
        throw new UserError(`${at('content')}: expected string, received ${String(turn.content)}`);
      }
      const { tool_call_id: answers } = turn;
      if (typeof answers === 'string' && called.size > 0 && !called.has(answers)) {
        throw new UserError(`${at('tool_call_id')}: no call before has the id ${JSON.stringify(answers)}`);
      }
      return { ...rest, role: turn.role, content };
    }
    if (turn.role !== 'assistant') {
      throw new UserError(
        `${at('tool_calls')}: only the assistant calls tools, this turn is the ${turn.role}'s`,
      );
    }
    const parsed = calls.map((call, k) => {
      if (typeof call.id === 'string') called.add(call.id);
      const argumentsOfCall = objectOf(at(`tool_calls.${k}.function.arguments`), call.function.arguments);
      return { ...givenCalls![k], function: { ...givenCalls![k].function, arguments: argumentsOfCall } };
    });
    return { ...given.messages[i], role: turn.role, content, tool_calls: parsed };
  });
  return tools ? { messages: checked, tools: given.tools } : { messages: checked };
}

/** A turn as it came, once it was checked. */
interface Turn extends Readonly<Record<string, unknown>> {
  readonly tool_calls?: readonly { readonly function: object }[] | null;
}

type Arguments = Record<string, unknown> | Map<unknown, unknown>;

function objectOf(place: string, value: string | Arguments): Arguments {
  if (typeof value !== 'string') return value;
  let parsed: unknown;
  try {
    parsed = parseExactJson('it', value);
  } catch (error) {
    throw new UserError(`${place}: expected the text of a JSON object (${messageOf(error)})`);
  }
  const isObject = typeof parsed === 'object' && parsed !== null && !(parsed instanceof JsonFloat);
  if (isObject && !Array.isArray(parsed)) {
    return parsed as Record<string, unknown>;
  }
  throw new UserError(`${place}: expected the text of a JSON object, found ${value.slice(0, 40)}`);
}
