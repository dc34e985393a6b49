import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { copyCompanions } from './companions.js';
import { MODULES_FILE, readSentenceTask, writeSentenceModules } from './sentenceModules.js';
import type { EmbeddingTask } from './task.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'modules-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** Lays down a folder as sentence-transformers does. */
function lay(types: readonly string[], pooling: object, transformer?: object, at = root) {
  const modules = types.map((type, idx) => {
    const name = type.split('.').at(-1)!;
    return { idx, name: `${idx}`, path: idx === 0 ? '' : `${idx}_${name}`, type };
  });
  writeFileSync(join(at, MODULES_FILE), JSON.stringify(modules));
  mkdirSync(join(at, '1_Pooling'), { recursive: true });
  writeFileSync(join(at, '1_Pooling', 'config.json'), JSON.stringify(pooling));
  if (transformer) writeFileSync(join(at, 'sentence_bert_config.json'), JSON.stringify(transformer));
}
const old = (name: string) => `sentence_transformers.models.${name}`;
const OLD = ['Transformer', 'Pooling', 'Normalize'].map(old);
const NEW = [
  'sentence_transformers.base.modules.transformer.Transformer',
  'sentence_transformers.sentence_transformer.modules.pooling.Pooling',
];

describe('readSentenceTask', () => {
  it.each<[string, readonly string[], object, object | undefined, Omit<EmbeddingTask, 'kind'>]>([
    [
      'all-MiniLM',
      OLD,
      { pooling_mode_cls_token: false, pooling_mode_mean_tokens: true },
      { max_seq_length: 256, do_lower_case: false },
      { pooling: 'mean', normalize: true, maxLength: 256 },
    ],
    ['BGE', OLD, { pooling_mode_cls_token: true }, undefined, { pooling: 'cls', normalize: true }],
    [
      'flags of the last token',
      OLD,
      { pooling_mode_lasttoken: true },
      undefined,
      { pooling: 'last', normalize: true },
    ],
    [
      'version 6',
      NEW,
      { pooling_mode: 'lasttoken', include_prompt: true },
      undefined,
      { pooling: 'last', normalize: false },
    ],
    [
      'a list of one',
      NEW,
      { pooling_mode: ['mean'] },
      { max_seq_length: null },
      { pooling: 'mean', normalize: false },
    ],
  ])('%s', async (_, types, pooling, transformer, task) => {
    lay(types, pooling, transformer);
    expect(await readSentenceTask(root)).toEqual({ kind: 'embedding', ...task });
  });

  it('of a folder without modules.json is none', async () => {
    expect(await readSentenceTask(root)).toBeUndefined();
  });

  it.each<[string, readonly string[], object, object | undefined, string]>([
    [
      'a dense layer',
      [...OLD.slice(0, 2), old('Dense')],
      {},
      undefined,
      'has the modules Transformer, Pooling, Dense, and supported are',
    ],
    [
      'two poolings',
      OLD,
      { pooling_mode_cls_token: true, pooling_mode_max_tokens: true },
      undefined,
      'the pooling cls with max is not supported, expected one of mean, cls, lasttoken',
    ],
    ['max', NEW, { pooling_mode: 'max' }, undefined, 'the pooling max is not supported'],
    ['no pooling', OLD, {}, undefined, 'the pooling of no kind is not supported'],
    [
      'prompts left out',
      NEW,
      { pooling_mode: 'mean', include_prompt: false },
      undefined,
      'key "include_prompt"',
    ],
    ['lower case', OLD, { pooling_mode_mean_tokens: true }, { do_lower_case: true }, 'key "do_lower_case"'],
  ])('refuses %s', async (_, types, pooling, transformer, message) => {
    lay(types, pooling, transformer);
    await expect(readSentenceTask(root)).rejects.toThrow(message);
  });

  it('refuses a path out of the folder', async () => {
    writeFileSync(join(root, MODULES_FILE), JSON.stringify([{ path: '../up', type: 'Transformer' }]));
    await expect(readSentenceTask(root)).rejects.toThrow('expected the name of a folder');
  });
});

it.each<EmbeddingTask>([
  { kind: 'embedding', pooling: 'mean', normalize: true, maxLength: 256 },
  { kind: 'embedding', pooling: 'cls', normalize: false },
  { kind: 'embedding', pooling: 'last', normalize: true },
])('writeSentenceModules: what is written is read, and copied with the model: %j', async (task) => {
  await writeSentenceModules(root, task, 384);
  expect(await readSentenceTask(root)).toEqual(task);
  const [to, without] = [join(root, 'to'), join(root, 'without')];
  for (const folder of [to, without]) mkdirSync(folder);
  await copyCompanions(root, to);
  expect(await readSentenceTask(to)).toEqual(task);
  await copyCompanions(root, without, [MODULES_FILE]);
  expect(existsSync(join(without, '1_Pooling'))).toBe(false);
});
