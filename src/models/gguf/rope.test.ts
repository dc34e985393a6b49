import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readGguf } from '../../formats/gguf/reader.js';
import { describeGguf } from './file.js';

const fixture = fileURLToPath(new URL('../../formats/gguf/fixtures/llama-tekken.gguf', import.meta.url));

/** The configuration of a fixture with other metadata. */
async function ropeOf(metadata: Record<string, string | number>) {
  const gguf = await readGguf(fixture);
  for (const [key, value] of Object.entries(metadata)) gguf.metadata.set(`llama.${key}`, value);
  return (await describeGguf(gguf)).config.rope_scaling;
}

describe('rope scaling of a GGUF file, as llama.cpp reads it', () => {
  it.each([
    [{}, null],
    [{ 'rope.scaling.factor': 4 }, { rope_type: 'linear', factor: 4 }],
    [
      { 'rope.scaling.type': 'linear', 'rope.scaling.factor': 2.5 },
      { rope_type: 'linear', factor: 2.5 },
    ],
    [{ 'rope.scale_linear': 8 }, { rope_type: 'linear', factor: 8 }],
    [
      { 'rope.scale_linear': 8, 'rope.scaling.factor': 4 },
      { rope_type: 'linear', factor: 4 },
    ],
    [{ 'rope.scaling.type': 'none', 'rope.scaling.factor': 4 }, null],
    [{ 'rope.scaling.type': 'linear' }, null],
    [
      { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4, 'rope.scaling.original_context_length': 32 },
      { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32, beta_fast: 32, beta_slow: 1 },
    ],
    [{ 'rope.scaling.factor': 0 }, null],
    [{ 'rope.scaling.factor': Math.fround(1.1) }, { rope_type: 'linear', factor: 1.1 }],
  ])('%j', async (metadata, scaling) => expect(await ropeOf(metadata)).toEqual(scaling));

  it.each([
    [{ 'rope.scaling.type': 'ntk', 'rope.scaling.factor': 4 }, 'rope scaling "ntk" is not converted'],
    [{ 'rope.scaling.type': 'longrope' }, 'is without its tensor "rope_factors_long.weight"'],
    [
      { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4, 'rope.scaling.attn_factor': 2 },
      'rope.scaling.attn_factor is not 1',
    ],
    [{ 'rope.scaling.factor': -1 }, 'the rope scaling factor is -1, expected one above 0'],
  ])('refuses %j', async (metadata, message) => {
    await expect(ropeOf(metadata)).rejects.toThrow(message);
  });

  it('is not mixed with that of Llama 3', async () => {
    const gguf = await readGguf(
      fileURLToPath(new URL('../../formats/gguf/fixtures/llama-bpe.gguf', import.meta.url)),
    );
    expect((await describeGguf(gguf)).config.rope_scaling).toMatchObject({ rope_type: 'llama3' });
    gguf.metadata.set('llama.rope.scale_linear', 2);
    await expect(describeGguf(gguf)).rejects.toThrow('which are not converted together');
  });
});
