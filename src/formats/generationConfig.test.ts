import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { addEndTokens, parseGenerationConfig, readGenerationConfig } from './generationConfig.js';

const parse = (content: Record<string, unknown>) => parseGenerationConfig('generation_config.json', content);

it('has the settings that are followed, and the names of those that are not', () => {
  const content = {
    ...{ do_sample: true, temperature: 0.7, top_k: null, pad_token_id: 0, transformers_version: '4.37.0' },
    ...{ num_beams: 4, typical_p: 0.9, epsilon_cutoff: 0, guidance_scale: 1, sequence_bias: [[[5], -1]] },
  };
  expect(parse(content)).toEqual({
    settings: { do_sample: true, temperature: 0.7, top_k: null },
    ignored: ['num_beams', 'typical_p', 'sequence_bias'],
  });
});

it.each([
  [{ temperature: 'hot' }, 'key "temperature": expected number, received string'],
  [{ top_p: 2 }, 'key "top_p"'],
  [{ bad_words_ids: [5] }, 'key "bad_words_ids.0"'],
  [{ suppress_tokens: [-1] }, 'key "suppress_tokens.0"'],
])('%j is refused by its key', (content, message) => {
  expect(() => parse(content)).toThrow(`generation_config.json: ${message}`);
});

it('is read where it is there', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-generation-'));
  try {
    expect(await readGenerationConfig(folder)).toBeUndefined();
    writeFileSync(join(folder, 'generation_config.json'), '{"do_sample": true}');
    expect(await readGenerationConfig(folder)).toEqual({ do_sample: true });
    writeFileSync(join(folder, 'generation_config.json'), '[]');
    await expect(readGenerationConfig(folder)).rejects.toThrow('generation_config.json: ');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it.each([
  [{}, [5], 5],
  [{ eos_token_id: null }, [5, 7], [5, 7]],
  [{ eos_token_id: 2 }, [5], [2, 5]],
])('names ends beside those of a config.json of %j', async (config, ids, expected) => {
  const folder = mkdtempSync(join(tmpdir(), 'ends-'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  await addEndTokens(folder, ids);
  expect(await readGenerationConfig(folder)).toEqual({ eos_token_id: expected });
  rmSync(folder, { recursive: true });
});
