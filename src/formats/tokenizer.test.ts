import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { chatSegments, renderChat } from './chat.js';
import { tokenizerJsonSchema } from './tokenizer/pipeline.js';
import { loadTokenizer, StreamDecoder, Tokenizer } from './tokenizer.js';

const fixtures = fileURLToPath(new URL('./fixtures/tokenizer/', import.meta.url));
const names = ['bytelevel', 'sentencepiece'] as const;
interface Sample {
  text: string;
  ids: number[];
  with_special: number[];
  decoded: string;
  decoded_skip: string;
}
const samples = (name: string): Sample[] =>
  JSON.parse(readFileSync(join(fixtures, name, 'expected.json'), 'utf8')).samples;

const tokenizers = {} as Record<(typeof names)[number], Tokenizer>;
let scratch: string;
beforeAll(async () => {
  for (const name of names) tokenizers[name] = await loadTokenizer(join(fixtures, name));
  scratch = mkdtempSync(join(tmpdir(), 'tokenizer-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe.each(names)('%s, beside the Rust library', (name) => {
  it.each(samples(name).map((sample) => [JSON.stringify(sample.text), sample] as const))(
    '%s',
    (_, sample) => {
      const tokenizer = tokenizers[name];
      expect(tokenizer.encode(sample.text, { addSpecialTokens: false })).toEqual(sample.ids);
      expect(tokenizer.encode(sample.text)).toEqual(sample.with_special);
      expect(tokenizer.decode(sample.ids)).toBe(sample.decoded);
      expect(tokenizer.decode(Int32Array.from(sample.ids), { skipSpecialTokens: true })).toBe(
        sample.decoded_skip,
      );
    },
  );

  it('gives any text back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        // SentencePiece's mark of a blank comes back as one: see Tokenizer.decode.
        fc.pre(!/\p{Cs}/u.test(text) && !(name === 'sentencepiece' && text.includes('▁')));
        expect(tokenizers[name].decode(tokenizers[name].encode(text, { addSpecialTokens: false }))).toBe(
          text,
        );
      }),
    );
  });
});

describe('what a tokenizer knows of itself', () => {
  it('of a chat model', () => {
    const { vocabSize, bosId, eosId, eosIds, padId, specialTokens, chatTemplate } = tokenizers.bytelevel;
    expect({ vocabSize, bosId, eosId, eosIds, padId }).toEqual({
      vocabSize: 361,
      bosId: 1,
      eosId: 2,
      eosIds: [2, 0],
      padId: 2,
    });
    expect(specialTokens).toEqual(['<|endoftext|>', '<|im_start|>', '<|im_end|>']);
    expect(chatTemplate).toContain('<|im_start|>');
    expect(tokenizers.bytelevel.texts()).toMatchObject({ bosToken: '<|im_start|>', eosToken: '<|im_end|>' });
  });

  it('of a base model', () => {
    const { vocabSize, bosId, eosIds, padId, chatTemplate } = tokenizers.sentencepiece;
    expect({ vocabSize, bosId, eosIds, padId, chatTemplate }).toEqual({
      vocabSize: 366,
      bosId: 1,
      eosIds: [2],
      padId: 2,
      chatTemplate: undefined,
    });
  });

  it('counts the token that the template ends a turn with, whatever the files call EOS', async () => {
    const folder = variant('turn-end', 'tokenizer_config.json', (config) => {
      config.eos_token = '<|endoftext|>';
    });
    const { eosId, eosIds } = await loadTokenizer(folder);
    expect({ eosId, eosIds }).toEqual({ eosId: 0, eosIds: [0, 2] });
  });

  it('takes the template of its own file, or the one called default', async () => {
    const folder = variant('template', 'tokenizer_config.json', (config) => {
      config.chat_template = [
        { name: 'tool_use', template: 'tools' },
        { name: 'default', template: 'the default' },
      ];
    });
    const listed = await loadTokenizer(folder);
    expect(listed.chatTemplate).toBe('the default');
    expect([listed.templateFor(undefined), listed.templateFor([{}])]).toEqual(['the default', 'tools']);
    expect(listed.texts().templateFile).toBe(join(folder, 'tokenizer_config.json'));
    writeFileSync(join(folder, 'chat_template.jinja'), 'its own file');
    const own = await loadTokenizer(folder);
    expect([own.chatTemplate, own.templateFor([{}])]).toEqual(['its own file', 'its own file']);
    expect(own.texts().templateFile).toBe(join(folder, 'chat_template.jinja'));
    mkdirSync(join(folder, 'additional_chat_templates'));
    writeFileSync(join(folder, 'additional_chat_templates', 'tool_use.jinja'), 'calls');
    const both = await loadTokenizer(folder);
    expect([both.templateFor(undefined), both.templateFor([{}])]).toEqual(['its own file', 'calls']);
  });

  it('needs no file but tokenizer.json', async () => {
    const folder = variant('alone', 'tokenizer.json', () => {});
    for (const file of ['tokenizer_config.json', 'generation_config.json']) rmSync(join(folder, file));
    const { eosId, eosIds, padId } = await loadTokenizer(folder);
    expect({ eosId, eosIds, padId }).toEqual({ eosId: undefined, eosIds: [], padId: 0 });
  });
});

describe('encode', () => {
  it('puts BOS before a text, and never EOS behind it', async () => {
    const folder = variant(
      'add-eos',
      'tokenizer.json',
      (json) => {
        json.post_processor.single.push({ SpecialToken: { id: '</s>', type_id: 0 } });
        json.post_processor.special_tokens['</s>'] = { id: '</s>', ids: [2], tokens: ['</s>'] };
      },
      'sentencepiece',
    );
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer.encode('The river')).toEqual(tokenizers.sentencepiece.encode('The river'));
    expect(tokenizer.encode('')).toEqual([1]);
  });

  it('continues a text without the blank that this tokenizer puts before one', () => {
    const { sentencepiece } = tokenizers;
    const plain = { addSpecialTokens: false };
    const whole = sentencepiece.encode('[INST] the river [/INST] a town</s>', plain);
    const prompt = sentencepiece.encode('[INST] the river [/INST]', plain);
    const answer = sentencepiece.encode(' a town</s>', { ...plain, after: '<s>[INST] the river [/INST]' });
    expect([...prompt, ...answer]).toEqual(whole);
    expect(sentencepiece.encode(' a town</s>', plain)).not.toEqual(answer);
  });

  it('makes special tokens of their names in a text', () => {
    expect(tokenizers.bytelevel.encode('a<|im_end|>b')).toContain(2);
  });

  it('decodes nothing where no token is', () => {
    const { bytelevel } = tokenizers;
    expect(bytelevel.decode([])).toBe('');
    expect(bytelevel.decode([9999, ...bytelevel.encode('ab'), -1])).toBe('ab');
  });
});

describe('a rendered chat', () => {
  it('has the same ids in pieces as in one', () => {
    const { bytelevel } = tokenizers;
    const template = bytelevel.chatTemplate!;
    const messages = [
      { role: 'user', content: 'the river' },
      { role: 'assistant', content: 'the town' },
      { role: 'user', content: 'and?' },
      { role: 'assistant', content: 'boats' },
    ];
    const endOfTurn = bytelevel.eosIds.map((id) => bytelevel.tokenOf(id)!);
    const [sequence] = chatSegments(template, messages, { ...bytelevel.texts(), endOfTurn });
    const ids = sequence.flatMap(({ text }) => bytelevel.encode(text, { addSpecialTokens: false }));
    expect([...ids, ...bytelevel.encode('\n')]).toEqual(bytelevel.encode(renderChat(template, messages)));
  });
});

describe.each(names)('StreamDecoder over %s', (name) => {
  const collect = (decoder: StreamDecoder, ids: number[]) => [
    ...ids.map((id) => decoder.push(id)),
    decoder.flush(),
  ];

  it('gives the whole text in whole characters', () => {
    const tokenizer = tokenizers[name];
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 30 }), (text) => {
        fc.pre(!/\p{Cs}/u.test(text));
        const ids = tokenizer.encode(text, { addSpecialTokens: false });
        const pieces = collect(new StreamDecoder(tokenizer), ids);
        expect(pieces.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens: true }));
        expect(pieces.every((piece) => !/\p{Cs}/u.test(piece))).toBe(true);
        expect(pieces.some((piece) => piece.includes('\ufffd'))).toBe(text.includes('\ufffd'));
      }),
    );
  });

  it.each([true, false])(
    'agrees with decode on any ids, skipping special tokens: %s',
    (skipSpecialTokens) => {
      const tokenizer = tokenizers[name];
      const id = fc.integer({ min: 0, max: tokenizer.vocabSize + 3 });
      fc.assert(
        fc.property(fc.array(id, { maxLength: 30 }), (ids) => {
          const pieces = collect(new StreamDecoder(tokenizer, { skipSpecialTokens }), ids);
          expect(pieces.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
        }),
        { numRuns: 300 },
      );
    },
  );

  it('keeps the blank before the word when it continues a text', () => {
    const tokenizer = tokenizers[name];
    const after = tokenizer.encode('The river');
    const ids = tokenizer.encode(' runs', { addSpecialTokens: false, after: 'The river' });
    expect(collect(new StreamDecoder(tokenizer, { after }), ids).join('')).toBe(' runs');
  });

  it('starts again after flush', () => {
    const tokenizer = tokenizers[name];
    const decoder = new StreamDecoder(tokenizer);
    const ids = tokenizer.encode('家', { addSpecialTokens: false });
    // Byte fallback gives one for each byte.
    const unfinished = name === 'sentencepiece' ? '\ufffd\ufffd' : '\ufffd';
    expect(collect(decoder, ids.slice(0, -1)).at(-1)).toBe(unfinished);
    expect(collect(decoder, ids).join('')).toBe('家');
  });
});

it('StreamDecoder knows a token from the same one with a blank before it, behind which it was cut', () => {
  const decoder = {
    type: 'Sequence',
    decoders: [
      { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
      { type: 'CTC', pad_token: '<pad>', word_delimiter_token: '|', cleanup: false },
    ],
  };
  const vocab = { '<unk>': 0, to: 1, '▁day': 2, day: 3, s: 4 };
  const json = { version: '1.0', decoder, model: { type: 'WordLevel', vocab, unk_token: '<unk>' } };
  const tokenizer = new Tokenizer({ tokenizer: tokenizerJsonSchema.parse(json), place: 'tokenizer.json' });
  const stream = new StreamDecoder(tokenizer);
  // What the Rust library makes of these ids.
  expect([1, 2, 3, 4].map((id) => stream.push(id)).join('') + stream.flush()).toBe('to daydays');
});

// biome-ignore lint/suspicious/noExplicitAny: the test breaks JSON files at will.
type Json = any;

/** A copy of a fixture with one file changed. */
function variant(
  name: string,
  file: string,
  change: (json: Json) => void,
  from: (typeof names)[number] = 'bytelevel',
): string {
  const folder = join(scratch, name);
  cpSync(join(fixtures, from), folder, { recursive: true });
  const json: Json = JSON.parse(readFileSync(join(folder, file), 'utf8'));
  change(json);
  writeFileSync(join(folder, file), JSON.stringify(json));
  return folder;
}

describe('bad files', () => {
  it.each<[string, string, (json: Json) => void, RegExp]>([
    ['no model', 'tokenizer.json', (json) => delete json.model, /tokenizer\.json: key "model"/],
    ['a negative id', 'tokenizer.json', (json) => (json.model.vocab.a = -1), /key "model\.vocab/],
    ['a huge id', 'tokenizer.json', (json) => (json.added_tokens[0].id = 1e12), /added_tokens\.0\.id/],
    [
      'unknown parts',
      'tokenizer.json',
      (json) => (json.decoder = { type: 'X' }),
      /key "decoder\.type": the decoder "X" is not supported, expected BPEDecoder/,
    ],
    [
      'no merges',
      'tokenizer.json',
      (json) => delete json.model.merges,
      /key "model\.merges": expected a list of pairs/,
    ],
    [
      'an EOS of the wrong kind',
      'tokenizer_config.json',
      (json) => (json.eos_token = 3),
      /tokenizer_config\.json: key "eos_token"/,
    ],
    [
      'ids as text',
      'generation_config.json',
      (json) => (json.eos_token_id = '2'),
      /generation_config\.json: key "eos_token_id"/,
    ],
    [
      'dropout',
      'tokenizer.json',
      (json) => (json.model.dropout = 0.1),
      /key "model\.dropout": 0\.1 gives other tokens each time/,
    ],
    [
      'a pattern that JavaScript cannot have',
      'tokenizer.json',
      (json) =>
        (json.pre_tokenizer = {
          type: 'Split',
          pattern: { Regex: '\\Ga' },
          behavior: 'Isolated',
          invert: false,
        }),
      /key "pre_tokenizer\.pattern\.Regex": the pattern "\\\\Ga" cannot be used: \\G is not supported/,
    ],
    [
      'a part of the wrong type',
      'tokenizer.json',
      (json) => (json.normalizer = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: 3 }] }),
      /key "normalizer\.normalizers\.0\.prepend": expected string/,
    ],
    [
      'a post-processor without its token',
      'tokenizer.json',
      (json) =>
        (json.post_processor = {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: '[X]' } }, { Sequence: { id: 'A' } }],
          pair: [],
        }),
      /key "post_processor\.(single\.0|special_tokens)"/,
    ],
  ])('%s', async (name, file, change, message) => {
    const folder = variant(`bad ${name}`, file, change);
    const error = await loadTokenizer(folder).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
  });

  it.each<[string, (json: Json) => void, RegExp]>([
    [
      'backtrack for ever',
      (json) =>
        (json.pre_tokenizer = {
          type: 'Split',
          pattern: { Regex: '(a|aa)+$' },
          behavior: 'Isolated',
          invert: false,
        }),
      /tokenizer\.json: the patterns of this tokenizer take more than 10 s over a text of 61 characters/,
    ],
    [
      'grow without end',
      (json) =>
        (json.normalizer = {
          type: 'Sequence',
          normalizers: Array(40).fill({ type: 'Replace', pattern: { String: 'a' }, content: 'aa' }),
        }),
      /tokenizer\.json: the text grows to \d+ characters/,
    ],
  ])('parts that %s', async (name, change, message) => {
    const tokenizer = await loadTokenizer(variant(`bad ${name}`, 'tokenizer.json', change));
    expect(() => tokenizer.encode(`${'a'.repeat(60)}b`)).toThrow(message);
  });

  it('a folder without a tokenizer', async () => {
    await expect(loadTokenizer(scratch)).rejects.toThrow(`${scratch} has no tokenizer.json`);
  });
});
