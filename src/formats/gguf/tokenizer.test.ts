import { describe, expect, it } from 'vitest';
import type { GgufValue } from './reader.js';
import { tokenizerOf } from './tokenizer.js';
import { preNameOf } from './tokenizerSplits.js';

function spm(tokens: string[], more: [string, GgufValue][] = []) {
  const metadata = new Map<string, GgufValue>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.scores', tokens.map((_, i) => -i)],
    ...more,
  ]);
  return tokenizerOf({ path: 'x.gguf', version: 3, metadata, tensors: new Map() });
}

describe('tokenizerOf', () => {
  it('derives merges from scores, and refuses a token whose cuts would take for ever', () => {
    expect(spm(['a', 'b', 'ab']).tokenizer).toMatchObject({ model: { merges: [['a', 'b']] } });
    expect(() => spm(['a', 'b'.repeat(513)])).toThrow(
      /^x.gguf: token 1 has 513 characters, more than the 512 that a SentencePiece token may have$/,
    );
    expect(spm(['a', 'b'.repeat(513)], [['tokenizer.ggml.merges', []]]).tokenizer).toMatchObject({
      model: { merges: [] },
    });
  });
});

/** What llama.cpp calls the way in which a tokenizer.json splits text; patterns as the models' own files have them. */
describe('the pre-tokenizer', () => {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const gpt2 = { ...byteLevel, use_regex: true };
  const removed = (Regex: string) => ({
    type: 'Sequence',
    pretokenizers: [{ type: 'Split', pattern: { Regex }, behavior: 'Removed', invert: true }, byteLevel],
  });
  const gpt4 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const gpt4o =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const digits = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, gpt2] };

  it.each([
    ['GPT-2', 'gpt-2', { pre_tokenizer: gpt2 }],
    ['GPT-NeoX', 'mpt', { normalizer: { type: 'NFC' }, pre_tokenizer: gpt2 }],
    ['Granite', 'smollm', { pre_tokenizer: digits }],
    ['OLMo 2', 'dbrx', { pre_tokenizer: removed(gpt4) }],
    ['Llama 3', 'llama-bpe', { pre_tokenizer: removed(gpt4), model: { ignore_merges: true } }],
    ['Phi-4-mini', 'gpt-4o', { pre_tokenizer: removed(gpt4o) }],
  ])('of %s is %s, written and read', (_, name, json) => {
    expect(preNameOf('tokenizer.json', { model: {}, ...json })).toBe(name);
    const metadata = new Map<string, GgufValue>([
      ['tokenizer.ggml.model', 'gpt2'],
      ['tokenizer.ggml.pre', name],
      ['tokenizer.ggml.tokens', ['a']],
      ['tokenizer.ggml.merges', []],
    ]);
    const { tokenizer } = tokenizerOf({ path: 'x.gguf', version: 3, metadata, tensors: new Map() });
    expect(preNameOf('tokenizer.json', tokenizer as Parameters<typeof preNameOf>[1])).toBe(name);
  });

  it('that drops what lies between digits is none of llama.cpp', () => {
    expect(() => preNameOf('tokenizer.json', { model: {}, pre_tokenizer: removed('\\p{N}') })).toThrow(
      'split text in a way that llama.cpp is not known to have',
    );
  });
});
