import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { renderChat } from './chat.js';
import { checkConversation } from './messages.js';

const user = { role: 'user', content: 'a' };
const call = (more: object = {}) => ({
  id: 'c1',
  type: 'function',
  function: { name: 'f', arguments: '{"x": 1}', ...more },
});
const calling = (...calls: unknown[]) => ({ role: 'assistant', content: null, tool_calls: calls });
const check = (...messages: unknown[]) => checkConversation('rows line 7', { messages });

describe('checkConversation', () => {
  it('has arguments as objects, whichever way they come, and keeps further keys', () => {
    const asObject = { ...call(), function: { name: 'f', arguments: { x: 1 } } };
    for (const given of [call(), asObject]) {
      expect(check({ ...user, name: 'me' }, calling(given)).messages).toEqual([
        { ...user, name: 'me' },
        { role: 'assistant', content: null, tool_calls: [asObject] },
      ]);
    }
  });

  it('keeps the order of keys, and of arguments as text every number as it is written', () => {
    const text = '{"b": 9007199254740993, "a": 1.0, "c": 1e-07, "10": 1, "9": 2}';
    const turn = {
      tool_calls: [{ function: { arguments: text, name: 'f' }, id: 'c1', type: 'function' }],
      content: 'a',
      role: 'assistant',
    };
    const tools = [{ function: { parameters: {}, name: 'f' }, type: 'function' }];
    const { messages, tools: kept } = checkConversation('x', { messages: [user, turn], tools });
    expect(Object.keys(messages[1])).toEqual(['tool_calls', 'content', 'role']);
    expect(JSON.stringify(kept)).toBe(JSON.stringify(tools));
    const written = '{% for m in messages %}{{ m.tool_calls | tojson }}{% endfor %}';
    expect(renderChat(written, messages.slice(1))).toBe(
      `[{"function": {"arguments": ${text}, "name": "f"}, "id": "c1", "type": "function"}]`,
    );
  });

  it('takes empty calls for none, and content that is not there for null', () => {
    const answer = { role: 'assistant', content: 'b' };
    expect(check(user, { ...answer, tool_calls: [] }, { ...answer, tool_calls: null }).messages).toEqual([
      user,
      answer,
      answer,
    ]);
    expect(check(user, { role: 'assistant', tool_calls: [call()] }).messages[1].content).toBeNull();
  });

  it('passes tools on', () => {
    const tools = [{ type: 'function', function: { name: 'f', parameters: {} } }];
    expect(checkConversation('x', { messages: [user], tools })).toEqual({ messages: [user], tools });
    expect(checkConversation('x', { messages: [user], tools: null })).toEqual({ messages: [user] });
  });

  const result = (id: string) => ({ role: 'tool', content: '1', tool_call_id: id });
  it.each<[string, unknown[], string]>([
    [
      'no function',
      [calling({ name: 'f', arguments: {} })],
      'messages.0.tool_calls.0.function": expected object',
    ],
    [
      'no name',
      [calling(call({ name: undefined }))],
      'messages.0.tool_calls.0.function.name": expected string',
    ],
    ['an empty name', [calling(call({ name: '' }))], 'tool_calls.0.function.name"'],
    [
      'no arguments',
      [calling(call({ arguments: undefined }))],
      'arguments": expected an object or the text of one',
    ],
    [
      'a list',
      [calling(call(), call({ arguments: [1] }))],
      'tool_calls.1.function.arguments": expected an object',
    ],
    [
      'broken text',
      [calling(call({ arguments: '{"x": ' }))],
      'arguments": expected the text of a JSON object (',
    ],
    [
      'text of a list',
      [calling(call({ arguments: '[1]' }))],
      'expected the text of a JSON object, found [1]',
    ],
    ['another kind of call', [calling({ ...call(), type: 'code' })], 'messages.0.tool_calls.0.type"'],
    ['calls that are no list', [{ ...user, tool_calls: {} }], 'messages.0.tool_calls": expected array'],
    [
      'calls of the user',
      [{ ...user, tool_calls: [call()] }],
      'messages.0.tool_calls": only the assistant calls',
    ],
    [
      'the result of no call',
      [user, calling(call()), result('c2')],
      'messages.2.tool_call_id": no call before',
    ],
    [
      'a result without content',
      [user, { role: 'tool', content: null }],
      'messages.1.content": expected string',
    ],
    ['an unknown role', [{ role: 'human', content: 'a' }], 'messages.0.role"'],
  ])('refuses %s', (_, messages, message) => {
    const run = () => check(...messages);
    expect(run).toThrow(UserError);
    expect(run).toThrow(`rows line 7: key "`);
    expect(run).toThrow(message);
  });

  it.each<[string, unknown, string]>([
    ['tools that are no list', {}, 'key "tools": expected array'],
    ['a tool that is text', ['f'], 'key "tools.0": expected object'],
    ['a function without a name', [{ type: 'function', function: {} }], 'key "tools.0.function.name"'],
  ])('refuses %s', (_, tools, message) => {
    expect(() => checkConversation('x', { messages: [user], tools })).toThrow(message);
  });
});
