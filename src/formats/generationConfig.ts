/** A model's own settings for generation: generation_config.json, by transformers' names. */
import { join } from 'node:path';
import * as z from 'zod';
import { checkJson } from './io/json.js';
import { exists, readJson } from './io/node.js';
import { writeFileAtomic } from './io/write.js';

const tokenId = z.int().nonnegative();
const positive = z.number().positive();
const share = z.number().min(0).max(1);

/** The settings that are followed. null is as absent. */
const settings = z.object({
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_k: z.int().nonnegative().nullish(),
  top_p: share.nullish(),
  min_p: share.nullish(),
  repetition_penalty: positive.nullish(),
  no_repeat_ngram_size: z.int().nonnegative().nullish(),
  bad_words_ids: z.array(z.array(tokenId).min(1)).nullish(),
  suppress_tokens: z.array(tokenId).nullish(),
  begin_suppress_tokens: z.array(tokenId).nullish(),
  max_new_tokens: z.int().positive().nullish(),
  max_length: z.int().positive().nullish(),
  min_new_tokens: z.int().nonnegative().nullish(),
  min_length: z.int().nonnegative().nullish(),
  stop_strings: z.union([z.string().min(1), z.array(z.string().min(1))]).nullish(),
});

/**
 * Settings that would change what is generated and are not followed, with the values that change nothing. What is in
 * neither list is of caches, outputs and batches, or of models with an encoder.
 */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  num_beams: [1],
  num_beam_groups: [1],
  num_return_sequences: [1],
  top_h: [],
  typical_p: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  penalty_alpha: [0],
  dola_layers: [],
  guidance_scale: [1],
  sequence_bias: [],
  constraints: [],
  force_words_ids: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  exponential_decay_length_penalty: [],
  remove_invalid_values: [false],
  max_time: [],
  token_healing: [false],
  watermarking_config: [],
};

export interface GenerationSettings {
  /** Those of the file that say something. */
  settings: z.output<typeof settings>;
  /** Keys of the file that ask for what is not done here. */
  ignored: string[];
}

/** What a folder's generation_config.json holds; undefined where there is none. Throws UserError where it is no object. */
export async function readGenerationConfig(folder: string): Promise<Record<string, unknown> | undefined> {
  const path = join(folder, 'generation_config.json');
  return (await exists(path)) ? readJson(path, z.record(z.string(), z.unknown())) : undefined;
}

/**
 * Names tokens that end a text in a model folder's generation_config.json, beside those that it or else config.json
 * names: others stop only at these. Writes the file where there is none.
 */
export async function addEndTokens(folder: string, ids: readonly number[]): Promise<void> {
  const own = await readGenerationConfig(folder);
  const { eos_token_id: named } =
    own?.eos_token_id == null ? await readJson(join(folder, 'config.json'), ends) : own;
  const known = [named ?? []].flat();
  const all = [...new Set([...known, ...ids])];
  if (all.length === known.length) return;
  const content = { ...own, eos_token_id: all.length === 1 ? all[0] : all };
  await writeFileAtomic(join(folder, 'generation_config.json'), `${JSON.stringify(content, null, 2)}\n`);
}

const ends = z.looseObject({ eos_token_id: z.unknown().optional() });

/** Takes the settings out of a file's content. Throws UserError, prefixed with `place`, on a value of the wrong kind. */
export function parseGenerationConfig(place: string, content: Record<string, unknown>): GenerationSettings {
  const ignored = Object.keys(NEUTRAL).filter((key) => {
    const value = content[key];
    return value !== undefined && value !== null && !NEUTRAL[key].includes(value);
  });
  return { settings: checkJson(place, content, settings), ignored };
}
