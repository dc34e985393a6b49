import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { renderChat } from '../../formats/chat.js';
import { loadTokenizer, Tokenizer } from '../../formats/tokenizer.js';
import { tokenizerJsonSchema } from '../../formats/tokenizerCore.js';
import { type EncodeRowsOptions, type Example, encodeRows } from './encode.js';
import { TEXT_FORMS } from './forms.js';
import { instructionAsPrompt } from './instruction.js';
import { rowsFrom } from './rows.js';

const fixtures = new URL('../../formats/fixtures/', import.meta.url);
let bytelevel: Tokenizer;
let sentencepiece: Tokenizer;
beforeAll(async () => {
  bytelevel = await loadTokenizer(fileURLToPath(new URL('tokenizer/bytelevel', fixtures)));
  sentencepiece = await loadTokenizer(fileURLToPath(new URL('tokenizer/sentencepiece', fixtures)));
});

const encode = (values: unknown[], options: Partial<EncodeRowsOptions> = {}, tokenizer = bytelevel) =>
  encodeRows(rowsFrom(values, TEXT_FORMS), tokenizer, { maxLength: 1000, ...options });
/** The tokenizer with another chat template. */
const writing = (plain: string) => bytelevel.withTemplates({ plain });

/** The pieces of an example that are and are not learned, as text. */
function pieces({ ids, supervised }: Example, tokenizer = bytelevel): [learned: boolean, text: string][] {
  const runs: [boolean, number[]][] = [];
  ids.forEach((id, t) => {
    const learned = supervised[t] === 1;
    if (runs.at(-1)?.[0] !== learned) runs.push([learned, []]);
    runs.at(-1)![1].push(id);
  });
  return runs.map(([learned, run]) => [learned, tokenizer.decode(run)]);
}

const chat = [
  { role: 'user', content: 'What is it?' },
  { role: 'assistant', content: 'The river.' },
  { role: 'user', content: 'And that?' },
  { role: 'assistant', content: 'A boat.' },
  { role: 'user', content: 'Thanks.' },
];

describe('encodeRows', () => {
  it('learns the completion and its EOS, behind the prompt that generation would start from', async () => {
    const { examples } = await encode([{ prompt: 'the river is ', completion: 'long' }]);
    expect(pieces(examples[0])).toEqual([
      [false, 'the river is '],
      [true, 'long<|im_end|>'],
    ]);
    const prompt = bytelevel.encode('the river is ');
    expect([...examples[0].ids.slice(0, prompt.length)]).toEqual(prompt);
    expect(examples[0].ids.at(-1)).toBe(bytelevel.eosId);
    expect(examples[0].line).toBe(1);
  });

  it('puts BOS before the prompt and no second blank before the completion', async () => {
    const { examples } = await encode([{ prompt: 'the river', completion: ' runs' }], {}, sentencepiece);
    expect([...examples[0].ids]).toEqual([...sentencepiece.encode('the river runs'), 2]);
    expect(pieces(examples[0], sentencepiece)[1]).toEqual([true, 'runs</s>']);
  });

  it('learns all of a text but its first token, and an EOS', async () => {
    const { examples } = await encode([{ text: 'the river' }, { text: 'a boat<|im_end|>' }]);
    expect(examples.map(({ ids }) => bytelevel.decode(ids))).toEqual([
      'the river<|im_end|>',
      'a boat<|im_end|>',
    ]);
    for (const { supervised } of examples)
      expect([...supervised]).toEqual([0, ...Array(supervised.length - 1).fill(1)]);
    const { examples: withBos } = await encode([{ text: 'the river' }], {}, sentencepiece);
    expect([...withBos[0].ids]).toEqual([...sentencepiece.encode('the river'), 2]);
  });

  it('learns the assistant turns of messages; what follows the last is left out', async () => {
    const { examples, stats } = await encode([{ messages: chat }]);
    expect(pieces(examples[0])).toEqual([
      [false, '<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n'],
      [true, 'The river.<|im_end|>'],
      [false, '\n<|im_start|>user\nAnd that?<|im_end|>\n<|im_start|>assistant\n'],
      [true, 'A boat.<|im_end|>'],
    ]);
    const prompt = bytelevel.encode(
      renderChat(bytelevel.chatTemplate!, chat.slice(0, 1), { addGenerationPrompt: true }),
    );
    expect([...examples[0].ids.slice(0, prompt.length)]).toEqual(prompt);
    expect(stats).toEqual({
      rows: 1,
      examples: 1,
      truncated: 0,
      dropped: 0,
      unanswered: 0,
      unended: 0,
      startedTwice: 0,
      alike: 0,
      cutTurns: 0,
      unread: [],
      empty: 0,
      tokens: examples[0].ids.length,
      supervisedTokens: examples[0].supervised.filter((target) => target === 1).length,
      longest: examples[0].ids.length,
    });
  });

  it("writes rows with tools by the model's template for tools", async () => {
    const json = JSON.parse(readFileSync(new URL('tokenizer/bytelevel/tokenizer.json', fixtures), 'utf8'));
    const turn = (end: string) => `{% for m in messages %}{{ m.role[0] }}:{{ m.content }}${end}{% endfor %}`;
    const chat_template = [
      { name: 'default', template: `${turn('.<|im_end|>')}{% if add_generation_prompt %}a:{% endif %}` },
      { name: 'tool_use', template: `${turn('!<|im_end|>')}{% if add_generation_prompt %}a:{% endif %}` },
    ];
    const tokenizer = new Tokenizer({
      tokenizer: tokenizerJsonSchema.parse(json),
      config: { chat_template },
      place: 'x',
    });
    const messages = chat.slice(0, 2);
    const tools = [{ type: 'function', function: { name: 'f' } }];
    const { examples } = await encode([{ messages }, { messages, tools }], {}, tokenizer);
    expect(examples.map((example) => pieces(example, tokenizer).at(-1)![1])).toEqual([
      'The river..<|im_end|>',
      'The river.!<|im_end|>',
    ]);
  });

  it('counts rows that spell the BOS that is put before them too, as transformers doubles it', async () => {
    const rows = [{ text: '<s>the river' }, { text: 'the <s>river' }];
    const { examples, stats } = await encode(rows, {}, sentencepiece);
    // transformers: tokenizer('<s>the river').input_ids
    expect([...examples[0].ids].slice(0, -1)).toEqual([1, 1, 307, 318]);
    expect(stats.startedTwice).toBe(1);
    const prompt = await encode([{ prompt: '<s>the', completion: ' river' }], {}, sentencepiece);
    expect(prompt.stats.startedTwice).toBe(1);
    expect((await encode(rows)).stats.startedTwice).toBe(0);
  });

  it('names what of a conversation the template passes over, once', async () => {
    const turn = (answer: object) => ({ messages: [chat[0], { role: 'assistant', ...answer }] });
    const tools = [{ type: 'function', function: { name: 'f' } }];
    const rows = [
      turn({ content: 'A.', mood: 'glad', thinking: 'Hm.', name: 'b' }),
      { ...turn({ content: 'A.', mood: 'sad', extra: null }), tools },
    ];
    const { stats } = await encode(rows);
    expect(stats).toMatchObject({ unread: ['mood', 'thinking', 'tools'], cutTurns: 0 });
    const ends = '{% if add_generation_prompt %}a:{% endif %}';
    const whole = writing(
      `{{ tools }}{% for m in messages %}{{ m.role[0] }}:{{ m | tojson }}{% endfor %}${ends}`,
    );
    expect((await encode(rows, { addEos: true }, whole)).stats.unread).toEqual([]);
    const cutting = writing(
      "{% for m in messages %}{{ m.role[0] }}:{{ m.content.split('</think>')[-1] | trim }}<|im_end|>{% endfor %}" +
        ends,
    );
    const thought = [turn({ content: '<think>Hm.</think>\nA.' }), turn({ content: ' A. ' })];
    for (const lossOn of ['completion', 'all'] as const)
      expect((await encode(thought, { lossOn }, cutting)).stats.cutTurns).toBe(1);
    expect((await encode(thought)).stats.cutTurns).toBe(0);
  });

  it('learns everything when asked to', async () => {
    const rows = await encode([{ prompt: 'a', completion: 'b' }], { lossOn: 'all' });
    expect([...rows.examples[0].supervised]).toEqual([0, 1, 1]);
    const { examples } = await encode([{ messages: chat }], { lossOn: 'all' });
    expect([...examples[0].ids]).toEqual(bytelevel.encode(renderChat(bytelevel.chatTemplate!, chat)));
    expect(examples[0].supervised.indexOf(0, 1)).toBe(-1);
  });

  it('makes several sequences of a row whose template rewrites earlier turns', async () => {
    const qwen3 = writing(readFileSync(new URL('chat/qwen3.jinja', fixtures), 'utf8'));
    const row = { messages: chat };
    const { examples, stats } = await encode([row], {}, qwen3);
    expect(examples.map((example) => pieces(example).at(-1))).toEqual([
      [true, '<think>\n\n</think>\n\nThe river.<|im_end|>'],
      [true, '<think>\n\n</think>\n\nA boat.<|im_end|>'],
    ]);
    expect(stats).toMatchObject({ rows: 1, examples: 2 });
    const short = await encode([row], { templateVariables: { enable_thinking: false } }, qwen3);
    expect(short.examples.map((example) => pieces(example).at(-1)![1])).toEqual([
      'The river.<|im_end|>',
      'A boat.<|im_end|>',
    ]);
  });

  it('cuts on the right and drops what then has nothing to learn, and counts both', async () => {
    const { examples, stats } = await encode(
      [
        { prompt: 'aaaa', completion: 'bbbb' },
        { prompt: 'aaaaaaaaaa', completion: 'b' },
        { prompt: 'a', completion: 'b' },
      ],
      { maxLength: 6 },
    );
    expect(examples.map(({ line, ids }) => [line, bytelevel.decode(ids)])).toEqual([
      [1, 'aaaabb'],
      [3, 'ab<|im_end|>'],
    ]);
    expect(stats).toEqual({
      rows: 3,
      examples: 2,
      truncated: 1,
      dropped: 1,
      unanswered: 0,
      unended: 0,
      startedTwice: 0,
      alike: 0,
      cutTurns: 0,
      unread: [],
      empty: 0,
      tokens: 9,
      supervisedTokens: 4,
      longest: 12,
    });
  });

  it('drops a conversation in which the assistant says nothing', async () => {
    const { stats } = await encode([{ messages: chat.slice(0, 1) }, { messages: chat }]);
    expect(stats).toMatchObject({ rows: 2, examples: 1, dropped: 1, unanswered: 1 });
  });

  it('reads and does not learn a turn of weight 0, or of train: false', async () => {
    const expected = await encode([{ messages: chat }]);
    for (const mark of [{ weight: 0 }, { train: false }]) {
      const messages = chat.map((turn, i) => (i === 1 ? { ...turn, ...mark } : { ...turn, weight: 1 }));
      const { examples } = await encode([{ messages }]);
      expect(pieces(examples[0])).toEqual([
        [
          false,
          '<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nThe river.<|im_end|>' +
            '\n<|im_start|>user\nAnd that?<|im_end|>\n<|im_start|>assistant\n',
        ],
        [true, 'A boat.<|im_end|>'],
      ]);
      expect(examples[0].ids).toEqual(expected.examples[0].ids);
    }
  });

  it('adds no second end to a completion that spells it', async () => {
    const { examples } = await encode([{ prompt: 'a', completion: 'b<|im_end|>' }]);
    expect(bytelevel.decode(examples[0].ids)).toBe('ab<|im_end|>');
  });

  it('counts completions that are empty, of which only the end is learned', async () => {
    const { stats } = await encode([
      { prompt: 'a', completion: '' },
      { prompt: 'a', completion: 'b' },
    ]);
    expect(stats).toMatchObject({ examples: 2, empty: 1 });
  });

  it('counts turns that a template does not end, and ends them with EOS when asked to', async () => {
    const endless = writing(
      "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    );
    for (const lossOn of ['completion', 'all'] as const) {
      const { stats } = await encode([{ messages: chat.slice(0, 4) }], { lossOn }, endless);
      expect(stats.unended).toBe(1);
      const ended = await encode([{ messages: chat.slice(0, 4) }], { lossOn, addEos: true }, endless);
      expect(ended.stats.unended).toBe(0);
      for (const { ids } of ended.examples) expect(ids.at(-1)).toBe(bytelevel.eosId);
    }
    // What stands before a turn is what generation would read: no end that was only added.
    const { examples } = await encode([{ messages: chat.slice(0, 4) }], { addEos: true }, endless);
    expect(examples.map((example) => pieces(example))).toEqual([
      [
        [false, 'user: What is it?\nassistant: '],
        [true, 'The river.\n<|im_end|>'],
      ],
      [
        [false, 'user: What is it?\nassistant: The river.\nuser: And that?\nassistant: '],
        [true, 'A boat.\n<|im_end|>'],
      ],
    ]);
    const own = await encode([{ messages: chat }], { addEos: true });
    expect(own.examples).toEqual((await encode([{ messages: chat }])).examples);
  });

  it("writes Alpaca's rows by the chat template, or without one by Alpaca's prompts", async () => {
    const rows = [
      { instruction: 'Add.', input: '2 and 3', output: '5' },
      { instruction: 'Name a river.', output: 'Rhine' },
    ];
    const { examples } = await encode(rows);
    expect(examples.map((example) => pieces(example))).toEqual([
      [
        [false, '<|im_start|>user\nAdd.\n2 and 3<|im_end|>\n<|im_start|>assistant\n'],
        [true, '5<|im_end|>'],
      ],
      [
        [false, '<|im_start|>user\nName a river.<|im_end|>\n<|im_start|>assistant\n'],
        [true, 'Rhine<|im_end|>'],
      ],
    ]);
    const plain = await encode(rows, {}, sentencepiece);
    const { prompt } = instructionAsPrompt({ kind: 'instruction', ...rows[1], input: '' });
    expect(prompt).toBe(
      'Below is an instruction that describes a task. Write a response that appropriately completes the request.' +
        '\n\n### Instruction:\nName a river.\n\n### Response:\n',
    );
    const expected = await encode([{ prompt, completion: 'Rhine' }], {}, sentencepiece);
    expect(plain.examples[1].ids).toEqual(expected.examples[0].ids);
  });

  it('never makes a target of the first token nor leaves one behind the last target', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 12 });
    const row = fc.record({ prompt: text, completion: text });
    await fc.assert(
      fc.asyncProperty(
        fc.array(row, { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 2, max: 20 }),
        async (rows, maxLength) => {
          const all = [{ prompt: 'a', completion: 'b' }, ...rows];
          const { examples, stats } = await encode(all, { maxLength });
          for (const { ids, supervised, line } of examples) {
            const { prompt, completion } = all[line - 1];
            const whole = [...bytelevel.encode(prompt), ...bytelevel.encode(completion), bytelevel.eosId];
            expect([...ids]).toEqual(whole.slice(0, maxLength));
            expect([supervised[0], supervised.at(-1)]).toEqual([0, 1]);
          }
          expect(stats.examples + stats.dropped).toBe(stats.rows);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('encodeRows refuses', () => {
  it.each<[string, () => Promise<unknown>, string]>([
    [
      'rows that are all too long',
      () => encode([{ prompt: 'aaaaaa', completion: 'b' }], { maxLength: 4, source: 't.jsonl' }),
      't.jsonl: none of the 1 rows has anything to learn within 4 tokens (the longest has 8)',
    ],
    [
      'messages without a template',
      () => encode([{ messages: chat }], {}, sentencepiece),
      'the model has no chat template',
    ],
    [
      'a turn that comes first',
      () => encode([{ messages: chat }, { messages: chat.slice(1) }], { source: 't.jsonl' }),
      't.jsonl line 2: message 1 (assistant) comes first',
    ],
    [
      'a row that the template refuses',
      () => encode([{ messages: chat }], {}, writing("{{ raise_exception('no') }}")),
      'the data line 1: the template refuses it: no',
    ],
    [
      'rows in which the assistant has no turn',
      () => encode([{ messages: chat.slice(0, 1) }]),
      'the data: no row has a turn of the assistant to learn',
    ],
    [
      'a turn that is not learned where everything is',
      () =>
        encode([{ messages: [chat[0], { ...chat[1], weight: 0 }] }], { lossOn: 'all', source: 't.jsonl' }),
      't.jsonl line 1: a turn says that it is not learned',
    ],
    ['a senseless length', () => encode([{ text: 'a' }], { maxLength: 1.5 }), 'the maximum length'],
  ])('%s', async (_, run, message) => {
    const error = await run().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toContain(message);
  });

  it('texts when the tokenizer has no EOS', async () => {
    const json = JSON.parse(readFileSync(new URL('tokenizer/bytelevel/tokenizer.json', fixtures), 'utf8'));
    const without = new Tokenizer({ tokenizer: tokenizerJsonSchema.parse(json), place: 'x' });
    await expect(encode([{ text: 'a' }], {}, without)).rejects.toThrow('names no eos_token');
  });
});
