import { describe, expect, it } from 'vitest';
import type { GgufValue } from './reader.js';
import { tokenizerOf } from './tokenizer.js';

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
