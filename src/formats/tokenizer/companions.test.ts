/**
 * Tokens that stand only in the files beside tokenizer.json, against what transformers' AutoTokenizer makes of the
 * same folder (scripts/parity/make_token_file_fixtures.py).
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadTokenizer } from '../tokenizer.js';

interface Case {
  name: string;
  base: string;
  files: Record<string, object>;
  named: Record<'bos_token' | 'eos_token' | 'pad_token', number | null>;
  size: number;
  ids: number[][];
  decoded: string[];
}
const folder = fileURLToPath(new URL('../fixtures/tokenizer/', import.meta.url));
const fixture: { texts: string[]; cases: Case[] } = JSON.parse(
  readFileSync(join(folder, 'tokenFiles.json'), 'utf8'),
);

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'tokens-'));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

function write(base: string, files: Record<string, object>) {
  cpSync(join(folder, base, 'tokenizer.json'), join(scratch, 'tokenizer.json'));
  for (const [name, json] of Object.entries(files)) writeFileSync(join(scratch, name), JSON.stringify(json));
}

describe('tokens of the files beside tokenizer.json', () => {
  it.each(fixture.cases.map((of) => [of.name, of] as const))('%s', async (_, of) => {
    write(of.base, of.files);
    const tokenizer = await loadTokenizer(scratch);
    expect(fixture.texts.map((text) => tokenizer.encode(text, { addSpecialTokens: false }))).toEqual(of.ids);
    expect(of.ids.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: true }))).toEqual(of.decoded);
    expect(tokenizer.vocabSize).toBe(of.size);
    const { bosId, eosId, padId } = tokenizer;
    const { bos_token, eos_token, pad_token } = of.named;
    expect({ bosId, eosId, padId }).toEqual({
      bosId: bos_token ?? undefined,
      eosId: eos_token ?? undefined,
      padId: pad_token ?? eos_token ?? 0,
    });
  });

  it.each<[string, object, RegExp]>([
    [
      'tokenizer_config.json',
      { added_tokens_decoder: { x: { content: 'a' } } },
      /key "added_tokens_decoder\.x"/,
    ],
    ['tokenizer_config.json', { added_tokens_decoder: { 3: 'a' } }, /key "added_tokens_decoder\.3"/],
    ['tokenizer_config.json', { additional_special_tokens: [3] }, /key "additional_special_tokens\.0"/],
    ['special_tokens_map.json', { pad_token: {} }, /key "pad_token": expected a token/],
    ['added_tokens.json', { '<a>': '3' }, /key "<a>"/],
  ])('%s: %j is refused by its key', async (file, json, message) => {
    write('bytelevel', { [file]: json });
    await expect(loadTokenizer(scratch)).rejects.toThrow(message);
    await expect(loadTokenizer(scratch)).rejects.toThrow(file);
  });
});
