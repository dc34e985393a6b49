/**
 * PEFT's adapter_config.json for the adapter types that are implemented: checked, filled in and written
 * (against PEFT 0.21.2). What the types differ in stands in a file of each.
 */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from './io/json.js';
import { adaloraKind, type PeftAdaloraConfig } from './peftAdalora.js';
import { hiraKind, type PeftHiraConfig } from './peftHira.js';
import type { PeftKind } from './peftKind.js';
import { loraKind, type PeftLoraConfig } from './peftLora.js';
import { missKind, type PeftMissConfig } from './peftMiss.js';
import { type PeftVeraConfig, veraKind } from './peftVera.js';

export { alphaOf, type FoundStart, foundStartOf, type PeftLoraConfig } from './peftLora.js';
export type { PeftAdaloraConfig, PeftHiraConfig, PeftMissConfig, PeftVeraConfig };
export type PeftConfig =
  | PeftLoraConfig
  | PeftVeraConfig
  | PeftAdaloraConfig
  | PeftMissConfig
  | PeftHiraConfig;

// Each is asked about configurations of its own type alone.
const KINDS = {
  LORA: loraKind,
  ADALORA: adaloraKind,
  VERA: veraKind,
  MISS: missKind,
  HIRA: hiraKind,
} as Readonly<Record<PeftConfig['peft_type'], PeftKind<never>>> as Readonly<
  Record<PeftConfig['peft_type'], PeftKind<PeftConfig>>
>;
const TYPES = Object.keys(KINDS) as PeftConfig['peft_type'][];

/** What is read of PEFT's types, those of folders that methods read themselves included. */
export const READ_TYPES = [...TYPES, 'PREFIX_TUNING', 'PROMPT_TUNING'];

const typeSchema = z.object({
  peft_type: z.enum(TYPES, {
    error: ({ input }) => `${JSON.stringify(input) ?? 'none'} is not read, expected ${READ_TYPES.join(', ')}`,
  }),
});

/**
 * Checks a PEFT configuration. PEFT's defaults stand in for absent keys.
 * @throws UserError naming `place`, the key and its value for whatever changes what the adapter computes and
 * is not implemented: a key of PEFT's that is not at its default, or an unknown key that is not null, false or empty.
 */
export function checkPeftConfig(place: string, value: unknown): PeftConfig {
  const raw = checkJson(place, value, z.record(z.string(), z.unknown()));
  const { schema, neutral, idle, check } = KINDS[checkJson(place, raw, typeSchema).peft_type];
  if (raw.task_type === 'QUESTION_ANS') {
    throw new UserError(
      `${place}: task_type "QUESTION_ANS" is not supported, expected CAUSAL_LM, SEQ_CLS, TOKEN_CLS or FEATURE_EXTRACTION`,
    );
  }
  const config = checkJson(place, raw, schema) as PeftConfig;
  for (const [key, found] of Object.entries(raw)) {
    // PEFT drops a runtime_config too.
    if (Object.hasOwn(schema.shape, key) || Object.hasOwn(idle, key) || key === 'runtime_config') continue;
    if (isEmpty(found) || (Object.hasOwn(neutral, key) && found === neutral[key])) continue;
    throw new UserError(`${place}: ${key} ${JSON.stringify(found)} is not implemented`);
  }
  check?.(place, config);
  return config;
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

type Given<C extends PeftConfig> = Partial<Omit<C, 'peft_type'>>;

/** A configuration of one type with PEFT's defaults where `given` has no key. */
const complete =
  <C extends PeftConfig>(type: C['peft_type'], title: string) =>
  (given: Given<C>): C =>
    checkPeftConfig(`the ${title} configuration`, { ...given, peft_type: type }) as C;

export const peftLoraConfig = complete<PeftLoraConfig>('LORA', 'LoRA');
export const peftVeraConfig = complete<PeftVeraConfig>('VERA', 'VeRA');
export const peftAdaloraConfig = complete<PeftAdaloraConfig>('ADALORA', 'AdaLoRA');
export const peftMissConfig = complete<PeftMissConfig>('MISS', 'MiSS');
export const peftHiraConfig = complete<PeftHiraConfig>('HIRA', 'HiRA');

/** A configuration's text in PEFT's own layout: all keys, sorted, two spaces. */
export function encodePeftConfig(config: PeftConfig): string {
  const { neutral, idle } = KINDS[config.peft_type];
  const all = Object.entries({ ...neutral, ...idle, ...config, inference_mode: true });
  return JSON.stringify(Object.fromEntries(all.sort(([a], [b]) => (a < b ? -1 : 1))), null, 2);
}

/** What is particular to the type of a configuration. */
export function kindOf({ peft_type }: PeftConfig): PeftKind<PeftConfig> {
  return KINDS[peft_type];
}

/** The field's name of what a configuration describes, as "LoRA". */
export function kindName(config: PeftConfig): string {
  return kindOf(config).title(config);
}

/** Whether it is LoRA's W + s·B·A and nothing else, whose factors can be combined and written for others. */
export function isPlainLora(config: PeftConfig): config is PeftLoraConfig {
  return config.peft_type === 'LORA' && !config.use_dora && config.alora_invocation_tokens === null;
}

/** The rank of a site. */
export function rankOf(config: PeftConfig, site: string): number {
  return kindOf(config).rank(config, site);
}

/** What the product at a site is multiplied with: alpha / r, or alpha / √r with use_rslora; 1 where there is no alpha. */
export function scalingOf(config: PeftConfig, site: string): number {
  return kindOf(config).scaling(config, site);
}

/** Whether `modules_to_save` names a module, or one that it is part of: PEFT compares the ends of names. */
export function isSavedModule(modulesToSave: readonly string[], module: string): boolean {
  const parts = module.split('.');
  const around = parts.map((_, i) => parts.slice(0, i + 1).join('.'));
  return modulesToSave.some((end) => around.some((name) => name.endsWith(end)));
}

/** The rows that an adapter replaces, by the name of their module; a bare list is of the input embedding. */
export function trainableTokens(config: PeftConfig): ReadonlyMap<string, readonly number[]> {
  const tokens = 'trainable_token_indices' in config ? config.trainable_token_indices : null;
  if (tokens === null) return new Map();
  return new Map(Object.entries(Array.isArray(tokens) ? { embed_tokens: tokens } : tokens));
}
