/** The files by which sentence-transformers knows what a model's hidden states become: modules.json and what it names. */
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { exists, readJson } from './io/node.js';
import { writeFileAtomic } from './io/write.js';
import { type EmbeddingPooling, type EmbeddingTask, POOLINGS } from './task.js';

export const MODULES_FILE = 'modules.json';
const POOLING_FOLDER = '1_Pooling';
/** What a model's repository has of them, for whoever fetches one. */
export const SENTENCE_FILES = [MODULES_FILE, 'sentence_bert_config.json', `${POOLING_FOLDER}/config.json`];

/** A folder of a module within the model's: "1_Pooling"; the transformer is in the model's own. */
const FOLDER = /^([\w.-]*[\w-])?$/;
const modulesSchema = z.array(
  z.looseObject({
    path: z.string().regex(FOLDER, 'expected the name of a folder in the model'),
    type: z.string().min(1),
  }),
);
const poolingSchema = z.looseObject({
  pooling_mode: z.union([z.string(), z.array(z.string()).min(1)]).optional(),
  include_prompt: z.boolean().optional(),
});
const transformerSchema = z.looseObject({
  max_seq_length: z.int().min(2).nullish(),
  do_lower_case: z.boolean().optional(),
});

/** By the flag of an older file. */
const FLAGS: Readonly<Record<string, string>> = {
  pooling_mode_cls_token: 'cls',
  pooling_mode_max_tokens: 'max',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_mean_sqrt_len_tokens: 'mean_sqrt_len_tokens',
  pooling_mode_weightedmean_tokens: 'weightedmean',
  pooling_mode_lasttoken: 'lasttoken',
};
/** What sentence-transformers calls the poolings that there are here. */
const MODES: Readonly<Record<EmbeddingPooling, string>> = { mean: 'mean', cls: 'cls', last: 'lasttoken' };

/**
 * The task of a model's folder by its modules.json; undefined where there is none. Throws UserError for what is not computed
 * here: another pooling, a module behind it.
 */
export async function readSentenceTask(folder: string): Promise<EmbeddingTask | undefined> {
  const place = join(folder, MODULES_FILE);
  if (!(await exists(place))) return undefined;
  const modules = await readJson(place, modulesSchema);
  const kinds = modules.map(({ type }) => type.split('.').at(-1)!);
  const order = kinds.join(', ');
  if (order !== 'Transformer, Pooling' && order !== 'Transformer, Pooling, Normalize') {
    throw new UserError(
      `${place} has the modules ${order || 'none'}, and supported are Transformer, Pooling and, behind them, Normalize`,
    );
  }
  const [transformer, pooling] = modules;
  const maxLength = await lengthOf(join(folder, transformer.path));
  return {
    kind: 'embedding',
    pooling: await poolingOf(join(folder, pooling.path, 'config.json')),
    normalize: kinds.includes('Normalize'),
    ...(maxLength && { maxLength }),
  };
}

async function poolingOf(place: string): Promise<EmbeddingPooling> {
  const config = await readJson(place, poolingSchema);
  const flagged = Object.keys(FLAGS).filter((flag) => config[flag] === true);
  const modes =
    config.pooling_mode === undefined ? flagged.map((flag) => FLAGS[flag]) : [config.pooling_mode];
  const found = modes.flat();
  const pooling = POOLINGS.find((known) => found.length === 1 && MODES[known] === found[0]);
  if (!pooling) {
    throw new UserError(
      `${place}: the pooling ${found.join(' with ') || 'of no kind'} is not supported, expected one of ${Object.values(MODES).join(', ')}`,
    );
  }
  if (config.include_prompt === false) {
    throw new UserError(
      `${place}: key "include_prompt": texts without their prompt are not pooled, expected true`,
    );
  }
  return pooling;
}

async function lengthOf(folder: string): Promise<number | undefined> {
  const place = join(folder, 'sentence_bert_config.json');
  if (!(await exists(place))) return undefined;
  const { max_seq_length: length, do_lower_case: lower } = await readJson(place, transformerSchema);
  if (lower === true) {
    throw new UserError(
      `${place}: key "do_lower_case": texts are taken as the tokenizer takes them, expected false`,
    );
  }
  return length ?? undefined;
}

const type = (name: string) => `sentence_transformers.models.${name}`;

/** Writes those files for a model of `width` hidden units, as sentence-transformers of every version reads them. */
export async function writeSentenceModules(
  folder: string,
  { pooling, normalize, maxLength }: EmbeddingTask,
  width: number,
): Promise<void> {
  const modules = [
    { idx: 0, name: '0', path: '', type: type('Transformer') },
    { idx: 1, name: '1', path: POOLING_FOLDER, type: type('Pooling') },
    ...(normalize ? [{ idx: 2, name: '2', path: '2_Normalize', type: type('Normalize') }] : []),
  ];
  const flags = Object.entries(FLAGS).map(([flag, mode]) => [flag, mode === MODES[pooling]]);
  const write = (name: string, content: object) =>
    writeFileAtomic(join(folder, name), `${JSON.stringify(content, null, 2)}\n`);
  await mkdir(join(folder, POOLING_FOLDER), { recursive: true });
  await write(join(POOLING_FOLDER, 'config.json'), {
    word_embedding_dimension: width,
    ...Object.fromEntries(flags),
  });
  if (maxLength) {
    await write('sentence_bert_config.json', { max_seq_length: maxLength, do_lower_case: false });
  }
  await write(MODULES_FILE, modules);
}

/** Copies the folders that a model's modules.json names, as far as they are there. */
export async function copyModuleFolders(from: string, to: string): Promise<void> {
  const place = join(from, MODULES_FILE);
  if (!(await exists(place))) return;
  for (const { path } of await readJson(place, modulesSchema)) {
    if (path === '' || !(await exists(join(from, path)))) continue;
    await cp(join(from, path), join(to, path), { recursive: true });
  }
}
