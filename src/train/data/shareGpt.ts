/** ShareGPT's conversations, [{from, value}], as messages. */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { parseExactJson } from '../../formats/io/exactJson.js';
import { checkJson } from '../../formats/io/json.js';
import { EXACT_KEYS } from '../../formats/messages.js';

/** Who speaks, in the words of the data sets that are about. */
const ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  chatgpt: 'assistant',
  model: 'assistant',
  bot: 'assistant',
  function_call: 'assistant',
  system: 'system',
  observation: 'tool',
  tool: 'tool',
};

const turn = z.looseObject({ from: z.string(), value: z.string() });
const row = z.looseObject({
  conversations: z.array(z.union([turn, z.looseObject({ role: z.string() })])).min(1),
  system: z.string().nullish(),
  tools: z.unknown().optional(),
});

/**
 * The row as one of messages, for checkConversation. `system` goes before the turns, `tools` may be JSON text, a turn
 * from "function_call" is a call of tools; turns that are messages already stay. Throws UserError that begins with `place`.
 */
export function fromShareGpt(place: string, value: unknown): { messages: unknown[]; tools?: unknown } {
  const { conversations, system, tools } = checkJson(place, value, row);
  const messages = conversations.map((spoken, i) => {
    if (!('from' in spoken)) return spoken;
    const { from, value, ...rest } = spoken as z.output<typeof turn>;
    const at = `${place}: key "conversations.${i}`;
    if (!Object.hasOwn(ROLES, from)) {
      const known = Object.keys(ROLES).map((name) => JSON.stringify(name));
      throw new UserError(`${at}.from": expected one of ${known.join(', ')}, found ${JSON.stringify(from)}`);
    }
    const role = ROLES[from];
    if (from !== 'function_call') return { ...rest, role, content: value };
    return { ...rest, role, content: null, tool_calls: callsOf(`${at}.value"`, value) };
  });
  const read =
    typeof tools === 'string' && tools !== '' ? parseExactJson(`${place}: key "tools"`, tools) : tools;
  return {
    messages: system ? [{ role: 'system', content: system }, ...messages] : messages,
    ...(read !== '' && { tools: read }),
  };
}

/** A call, or several, as JSON text of {name, arguments}. */
function callsOf(place: string, text: string): unknown[] {
  const parsed = parseExactJson(place, text, EXACT_KEYS);
  return (Array.isArray(parsed) ? parsed : [parsed]).map((call) => ({ type: 'function', function: call }));
}
