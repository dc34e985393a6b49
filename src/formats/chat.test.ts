import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { type ChatMessage, chatSegments, endOfTurnToken, renderChat } from './chat.js';

interface Goldens {
  now: string;
  conversations: Record<string, ChatMessage[]>;
  renderings: Record<
    string,
    { add_generation_prompt: boolean; tools?: unknown[]; enable_thinking?: boolean }
  >;
  chats: { template: string; conversation: string; rendering: string; text?: string; error?: string }[];
}
const folder = new URL('./fixtures/chat/', import.meta.url);
const goldens: Goldens = JSON.parse(readFileSync(new URL('goldens.json', folder), 'utf8'));
const template = (name: string) => readFileSync(new URL(`${name}.jinja`, folder), 'utf8');

/** The tokens that end a turn in each format. */
const END_OF_TURN: Record<string, string[]> = {
  smollm2: ['<|im_end|>'],
  llama2: ['</s>'],
  llama3: ['<|end_of_text|>', '<|eot_id|>'],
  llama3_2: ['<|end_of_text|>', '<|eot_id|>'],
  llama3_1: ['<|end_of_text|>', '<|eom_id|>', '<|eot_id|>'],
  mistral: ['</s>'],
  mistral_tools: ['</s>'],
  hermes: ['<|im_end|>'],
  smollm3: ['<|im_end|>'],
  qwen2_5: ['<|endoftext|>', '<|im_end|>'],
  qwen3: ['<|endoftext|>', '<|im_end|>'],
  generation: ['</s>'],
  keys: [],
};
const specials = {
  bosToken: '<s>',
  eosToken: '</s>',
  namedTokens: { pad_token: '<pad>' },
  now: new Date(goldens.now),
};

describe('renderChat', () => {
  it.each(
    goldens.chats.map((chat) => [`${chat.template}, ${chat.conversation}, ${chat.rendering}`, chat] as const),
  )('is what transformers renders: %s', (_, chat) => {
    const { add_generation_prompt, tools, enable_thinking } = goldens.renderings[chat.rendering];
    const options = {
      ...specials,
      addGenerationPrompt: add_generation_prompt,
      tools,
      variables: { enable_thinking },
    };
    const render = () =>
      renderChat(template(chat.template), goldens.conversations[chat.conversation], options);
    if (chat.error === undefined) expect(render()).toBe(chat.text);
    else {
      const missing = /^'dict object' has no attribute ('\w+')$/.exec(chat.error)?.[1];
      const said = missing
        ? `uses what is not there: a dict has no attribute ${missing}`
        : `refuses it: ${chat.error}`;
      expect(render).toThrow(`the template ${said}`);
    }
  });

  it('covers every family', () => {
    expect(new Set(goldens.chats.map((chat) => chat.template))).toEqual(new Set(Object.keys(END_OF_TURN)));
  });

  it('names the place in errors', () => {
    const render = () => renderChat('{{ nothing() }}', [], { place: 'train.jsonl line 7' });
    expect(render).toThrow(UserError);
    expect(render).toThrow(
      /^train\.jsonl line 7: the template uses what is not there: 'nothing' is undefined/,
    );
  });

  it('names the file of the template', () => {
    const render = (place?: string) => () =>
      renderChat('{{ raise_exception("no") }}', [], { place, templateFile: 'm/chat_template.jinja' });
    expect(render()).toThrow(/^m\/chat_template\.jinja: the template refuses it: no$/);
    expect(render('t.jsonl line 7')).toThrow(
      /^t\.jsonl line 7: m\/chat_template\.jinja: the template refuses/,
    );
  });

  it('takes today for today by default', () => {
    expect(renderChat("{{ strftime_now('%Y') }}", [])).toBe(String(new Date().getFullYear()));
  });
});

const threeTurns = goldens.conversations['three turns'];
const segmentsOf = (name: string, messages: ChatMessage[], more = {}) =>
  chatSegments(template(name), messages, { ...specials, endOfTurn: END_OF_TURN[name], ...more });

describe('chatSegments', () => {
  it('supervises the turn and its end token, not the newline behind it; keeps the default system prompt', () => {
    expect(segmentsOf('smollm2', threeTurns.slice(0, 4))).toEqual([
      [
        {
          text:
            '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' +
            '<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n',
          supervised: false,
        },
        { text: 'Blue.<|im_end|>', supervised: true },
        { text: '\n<|im_start|>user\nAnother one?<|im_end|>\n<|im_start|>assistant\n', supervised: false },
        { text: 'Red.<|im_end|>', supervised: true },
      ],
    ]);
  });

  it.each(['smollm2', 'llama2', 'llama3', 'llama3_2', 'mistral', 'qwen2_5', 'generation'])(
    '%s: one sequence, the text of the whole conversation, every answer supervised',
    (name) => {
      const [sequence, ...others] = segmentsOf(name, threeTurns);
      expect(others).toEqual([]);
      const text = sequence.map((segment) => segment.text).join('');
      expect(renderChat(template(name), threeTurns, specials).startsWith(text)).toBe(true);
      const said = sequence.filter((segment) => segment.supervised).map((segment) => segment.text);
      const end = END_OF_TURN[name].at(-1)!;
      expect(said.map((part) => part.trim().replace(/ ?(?=<)/, ''))).toEqual(
        ['Blue.', 'Red.', 'Green.'].map((word) => word + end),
      );
    },
  );

  it('gives a sequence per turn where the template rewrites earlier turns', () => {
    const sequences = segmentsOf('qwen3', goldens.conversations.thinking);
    expect(sequences).toHaveLength(2);
    expect(sequences.map((sequence) => sequence[1])).toEqual([
      { text: '<think>\nseventeen times three\n</think>\n\n51<|im_end|>', supervised: true },
      { text: '<think>\nthe same again\n</think>\n\nYes.<|im_end|>', supervised: true },
    ]);
    expect(sequences[1][0].text).toContain('<|im_start|>assistant\n51<|im_end|>');
  });

  it('starts behind what the template itself puts into the prompt', () => {
    const [[prompt, said]] = segmentsOf('qwen3', threeTurns.slice(0, 2), {
      variables: { enable_thinking: false },
    });
    expect(prompt.text.endsWith('<|im_start|>assistant\n<think>\n\n</think>\n\n')).toBe(true);
    expect(said.text).toBe('Blue.<|im_end|>');
  });

  it.each(['qwen2_5', 'qwen3', 'hermes', 'smollm3', 'llama3_1', 'llama3_2', 'mistral_tools'])(
    '%s: every call and every answer is supervised, no result of a tool, each once',
    (name) => {
      const { tools } = goldens.renderings['two tools'];
      // Mistral's format moves the system message as the conversation goes on, which cannot be trained on.
      const messages = goldens.conversations['chain of tools'].slice(name === 'mistral_tools' ? 1 : 0);
      const all = segmentsOf(name, messages, { tools }).flat();
      const said = all.filter((segment) => segment.supervised).map((segment) => segment.text);
      expect(said).toHaveLength(4);
      const [weather, further, search, nothing] = said;
      for (const text of said) expect(text.endsWith(END_OF_TURN[name].at(-1)!)).toBe(true);
      for (const part of ['get_weather', 'Köln']) expect(weather).toContain(part);
      expect(further).toContain('It has 7 degrees.');
      for (const part of ['search', 'rain']) expect(search).toContain(part);
      expect(nothing).toContain('I found nothing.');
      for (const text of said) expect(text).not.toMatch(/c\\*": 7|^nothing|Please do/);
      const read = all.filter((segment) => !segment.supervised).map((segment) => segment.text);
      expect(read.join('')).toMatch(/c\\*": 7.*nothing/s);
    },
  );

  it('supervises calls of tools and the answer after them', () => {
    const [sequence] = segmentsOf('qwen2_5', goldens.conversations.tools);
    const said = sequence.filter((segment) => segment.supervised).map((segment) => segment.text);
    expect(said[0]).toMatch(/^<tool_call>\n{"name": "get_weather".*<\/tool_call><\|im_end\|>$/s);
    expect(said[1]).toBe('7 degrees.<|im_end|>');
  });

  it('keeps a turn whose end is written otherwise once the conversation goes on', () => {
    const closing = `{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% else %}<eos>{% endif %}`;
    const sequences = chatSegments(closing, threeTurns.slice(0, 4), { endOfTurn: ['<eos>', '<end>'] });
    expect(sequences).toHaveLength(1);
    expect(sequences[0].map((segment) => segment.text)).toEqual([
      '<user>Name a colour.<end><assistant>',
      'Blue.<end>',
      '<user>Another one?<end><assistant>',
      'Red.<end>',
    ]);
  });

  it('has nothing to say without an assistant turn', () => {
    expect(segmentsOf('smollm2', [{ role: 'user', content: 'a' }])).toEqual([]);
  });

  it('names the row when a turn does not follow from its prompt', () => {
    const unlike = `{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}<think>{% endif %}`;
    expect(() =>
      chatSegments(unlike, threeTurns.slice(0, 2), { endOfTurn: [], place: 'data.jsonl line 3' }),
    ).toThrow(
      'data.jsonl line 3: the chat template writes message 2 (assistant) another way than it asks for it, ' +
        'so it cannot be trained on: after "[Name a colour.]" generation starts from "<think>", the turn has "[Blue.]"',
    );
  });

  it('refuses a conversation that the assistant begins', () => {
    expect(() => segmentsOf('smollm2', [{ role: 'assistant', content: 'a' }])).toThrow(/comes first/);
  });
});

describe('endOfTurnToken', () => {
  const tokens = ['<|im_start|>', '<|im_end|>', '<|eot_id|>', '</s>', '<s>'];
  it.each([
    ['smollm2', '<|im_end|>'],
    ['llama2', '</s>'],
    ['llama3', '<|eot_id|>'],
    ['mistral', '</s>'],
    ['qwen3', '<|im_end|>'],
  ])('%s: %s', (name, token) => {
    expect(endOfTurnToken(template(name), tokens, specials)).toBe(token);
  });

  it('is undefined where the template writes none or cannot be rendered', () => {
    expect(
      endOfTurnToken('{% for m in messages %}{{ m.content }}\n{% endfor %}', tokens, {}),
    ).toBeUndefined();
    expect(endOfTurnToken('{{ nothing() }}', tokens, {})).toBeUndefined();
  });
});
