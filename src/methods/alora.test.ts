import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { writeLoraGguf } from '../formats/gguf/lora.js';
import { readAdapter } from '../formats/peft.js';
import { checkPeftConfig } from '../formats/peftConfig.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { type BaseModel, openModel } from '../models/base.js';
import { ACTIVE, type Adapter, createAdapter } from './adapter.js';
import { combineAdapters, parseCombineOptions } from './combine.js';
import { methodNamed } from './index.js';
import { invocationFeeds, lastOccurrence } from './invocation.js';
import { writeMergedModel } from './merge.js';

const golden = (name: string) => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));
const alora = methodNamed('alora');

let base: BaseModel;
let dir: string;
const runtime = new NodeRuntime();
beforeAll(async () => {
  base = await openModel(golden('fixtures/qwen2'));
  dir = await mkdtemp(join(tmpdir(), 'lowrank-alora-'));
});
afterAll(async () => {
  await runtime.close();
  await rm(dir, { recursive: true });
});
const adapterOf = async (options: object): Promise<Adapter> =>
  createAdapter(alora, alora.parse('c', options), base);

it.each([
  [[7], [1, 7, 2, 7, 3], 3],
  [[7, 2], [7, 2, 7, 2, 7], 2],
  [[7, 2], [1, 7], -1],
  [[7, 7], [7, 7, 7], 1],
  [[7, 2], [7], -1],
])('the last of %j in %j begins at %d', (tokens, ids, at) => {
  expect(lastOccurrence(tokens, ids)).toBe(at);
});

describe('the tokens of a batch that take part', () => {
  const rows = (ids: number[][], lengths: number[], starts?: number[][]) => ({
    rows: ids.length,
    length: ids[0].length,
    ids: Int32Array.from(ids.flat()),
    lengths: Int32Array.from(lengths),
    targetRows: Int32Array.of(3, 7),
    targetIds: Int32Array.of(8, 9),
    ...(starts && { starts: Int32Array.from(starts.flat()) }),
  });
  const active = async (options: object, given: ReturnType<typeof rows>) => {
    const { data, dims } = invocationFeeds(await adapterOf(options), given)[ACTIVE];
    expect(dims).toEqual([given.ids.length, 1]);
    return [...data].map(Number);
  };
  it('begin at the last occurrence, in each row for itself, and padding is none', async () => {
    const given = rows(
      [
        [5, 1, 5, 2],
        [5, 3, 5, 0],
      ],
      [4, 2],
    );
    expect(await active({ aloraInvocationTokens: [5] }, given)).toEqual([0, 0, 1, 1, 1, 1, 0, 0]);
  });
  it('an occurrence that ends with the target of the last position counts', async () => {
    const given = rows(
      [
        [5, 1, 5, 2],
        [1, 1, 1, 5],
      ],
      [4, 4],
    );
    // 8 and 9 come after the rows.
    expect(await active({ aloraInvocationTokens: [2, 8] }, given)).toEqual([0, 0, 0, 1, 0, 0, 0, 0]);
    expect(await active({ aloraInvocationTokens: [9] }, given)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });
  it('of packed rows each example is looked through by itself', async () => {
    const given = rows(
      [
        [5, 1, 1, 2],
        [1, 5, 5, 1],
      ],
      [4, 4],
      [
        [0, 0, 2, 2],
        [0, 0, 2, 2],
      ],
    );
    expect(await active({ aloraInvocationTokens: [5] }, given)).toEqual([1, 1, 0, 0, 0, 1, 1, 1]);
    expect(await active({ aloraInvocationTokens: [1, 1] }, given)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });
});

describe('refused', () => {
  it.each([
    [{}, 'c: alora needs alora_invocation_tokens, the ids of the tokens that call it'],
    [{ aloraInvocationTokens: [] }, 'alora_invocation_tokens'],
    [{ aloraInvocationTokens: [5, 96] }, 'alora_invocation_tokens: 96 is no token below 96'],
    [{ aloraInvocationTokens: [5], loraBias: true }, 'c: lora_bias is not for alora'],
    [
      { aloraInvocationTokens: '5,6', targetModules: ['embed_tokens'] },
      'alora is for the linear layers inside the model, and model.embed_tokens is none',
    ],
    [{ aloraInvocationTokens: [5], targetModules: ['lm_head'] }, 'and lm_head is none'],
  ])('%j', async (options, message) => {
    await expect(adapterOf(options)).rejects.toThrow(UserError);
    await expect(adapterOf(options)).rejects.toThrow(message);
  });

  it('by what takes plain LoRA, and by files with what it is not implemented with', async () => {
    const adapter = await readAdapter(golden('fixtures-methods/qwen2-alora_one/adapter'));
    const part = { name: 'a', adapter, weight: 1 };
    expect(() => combineAdapters([part, part], parseCombineOptions('o', {}))).toThrow(
      'a is a aLoRA adapter, and only plain LoRA can be combined',
    );
    const gguf = writeLoraGguf(join(dir, 'a.gguf'), 'a', adapter, {} as never, undefined);
    await expect(gguf).rejects.toThrow('a is a aLoRA adapter, and llama.cpp reads only LoRA');
    for (const more of [{ use_dora: true }, { lora_bias: true }]) {
      const config = { peft_type: 'LORA', alora_invocation_tokens: [5], ...more };
      expect(() => checkPeftConfig('c', config)).toThrow(
        'c: alora_invocation_tokens with use_dora or lora_bias is not implemented',
      );
    }
    const merging = writeMergedModel(
      join(dir, 'm'),
      runtime,
      base,
      await adapterOf({ aloraInvocationTokens: [5] }),
    );
    await expect(merging).rejects.toThrow('aLoRA changes only the tokens from its invocation on');
  });
});
