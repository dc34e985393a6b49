/**
 * LoRA adapters in PEFT's folder format: adapter_config.json with PEFT's keys and
 * adapter_model.safetensors with PEFT's tensor names (written and checked against PEFT 0.21.2).
 */
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { encodeF32 } from './float16.js';
import { checkJson } from './io/json.js';
import { exists, readJson, writeFileAtomic } from './io/node.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  type TensorEntry,
  type TensorInfo,
  writeSafetensors,
} from './safetensors.js';

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
const WEIGHT_PREFIX = 'base_model.model.';
const PEFT_VERSION = '0.21.2';

/** The two trained matrices of a site: A of [r, in], B of [out, r]. */
export type LoraPart = 'lora_A' | 'lora_B';
const PARTS: readonly LoraPart[] = ['lora_A', 'lora_B'];

const names = z.union([z.string(), z.array(z.string())]).nullable();

/** Values by module-name pattern; PEFT has {} and null for none. */
const perModule = (value: z.ZodNumber | z.ZodInt) =>
  z
    .record(z.string(), value)
    .nullish()
    .transform((patterns) => patterns ?? {});

/** Keys that say what an adapter computes, and which this package implements. */
const loraSchema = z.object({
  peft_type: z.literal('LORA'),
  r: z.int().positive().default(8),
  lora_alpha: z.number().default(8),
  lora_dropout: z.number().min(0).lt(1).default(0),
  use_rslora: z.boolean().default(false),
  target_modules: names.default(null),
  exclude_modules: names.default(null),
  layers_to_transform: z
    .union([z.int().nonnegative(), z.array(z.int().nonnegative())])
    .nullable()
    .default(null),
  layers_pattern: names.default(null),
  rank_pattern: perModule(z.int().positive()),
  alpha_pattern: perModule(z.number()),
  /** How the base stores its weights; A and B look the same either way. */
  fan_in_fan_out: z.boolean().default(false),
  /** Only what leaves the base weights alone; PiSSA and its like need their changed base too. */
  init_lora_weights: z
    .union([z.boolean(), z.enum(['gaussian', 'eva', 'orthogonal'])], {
      error: ({ input }) =>
        `${JSON.stringify(input)} is not implemented (it may change the base weights), expected true, false, ` +
        '"gaussian", "eva" or "orthogonal"',
    })
    .default(true),
  base_model_name_or_path: z.string().nullable().default(null),
  revision: z.string().nullable().default(null),
  task_type: z.string().nullable().default(null),
  inference_mode: z.boolean().default(true),
  peft_version: z.string().nullable().default(PEFT_VERSION),
});

/** A LoRA adapter's configuration, by PEFT's names; absent keys have PEFT's defaults. */
export type PeftLoraConfig = z.infer<typeof loraSchema>;

/** PEFT's other keys with the value that leaves plain LoRA as it is; written so, refused otherwise. */
const NEUTRAL: Record<string, unknown> = {
  alora_invocation_tokens: null,
  arrow_config: null,
  bias: 'none',
  ensure_weight_tying: false,
  kasa_config: null,
  layer_replication: null,
  lora_bias: false,
  modules_to_save: null,
  monteclora_config: null,
  target_parameters: null,
  trainable_token_indices: null,
  use_bdlora: null,
  use_dora: false,
  use_qalora: false,
  velora_config: null,
};

/** PEFT's keys that matter only before training, or only with a key that is refused. */
const IDLE: Record<string, unknown> = {
  auto_mapping: null,
  corda_config: null,
  eva_config: null,
  loftq_config: {},
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: 'megatron.core',
  qalora_group_size: 16,
};

/** Keys that need no look beyond the schema; runtime_config PEFT drops too. */
const HARMLESS = new Set([...Object.keys(loraSchema.shape), ...Object.keys(IDLE), 'runtime_config']);

/** One matrix of an adapter, row-major. */
export interface AdapterTensor {
  shape: readonly number[];
  data: Float32Array;
}

export interface Adapter {
  config: PeftLoraConfig;
  /** By adapterKey(site, part): "model.layers.0.self_attn.q_proj.lora_A". */
  tensors: Map<string, AdapterTensor>;
}

/** The key of a site's matrix in Adapter.tensors, e.g. "model.layers.0.self_attn.q_proj.lora_A". */
export function adapterKey(site: string, part: LoraPart): string {
  return `${site}.${part}`;
}

/** The site and part that adapterKey joined; undefined for any other text. */
export function splitAdapterKey(key: string): { site: string; part: LoraPart } | undefined {
  const dot = key.lastIndexOf('.');
  const part = PARTS.find((p) => p === key.slice(dot + 1));
  return part === undefined || dot < 1 ? undefined : { site: key.slice(0, dot), part };
}

/** The sites of an adapter, in the order of its tensors. */
export function adapterSites(tensors: ReadonlyMap<string, unknown>): string[] {
  return [...new Set([...tensors.keys()].flatMap((key) => splitAdapterKey(key)?.site ?? []))];
}

/** The rank of a site: the first rank_pattern that ends its name, else r (as PEFT's get_pattern_key). */
export function rankOf(config: PeftLoraConfig, site: string): number {
  return patternValue(config.rank_pattern, site) ?? config.r;
}

/** What B·A is multiplied with at a site: alpha / r, or alpha / √r with use_rslora. */
export function scalingOf(config: PeftLoraConfig, site: string): number {
  const alpha = patternValue(config.alpha_pattern, site) ?? config.lora_alpha;
  const r = rankOf(config, site);
  return alpha / (config.use_rslora ? Math.sqrt(r) : r);
}

function patternValue(patterns: Record<string, number>, site: string): number | undefined {
  return Object.entries(patterns).find(([pattern]) => endingRegExp(pattern).test(site))?.[1];
}

/** Throws SyntaxError for what is not a regular expression; checkPeftConfig has seen to that. */
function endingRegExp(pattern: string): RegExp {
  return new RegExp(`^(?:.*\\.)?(?:${pattern})$`);
}

function refuseBadPatterns(place: string, patterns: Record<string, number>): void {
  for (const pattern of Object.keys(patterns)) {
    try {
      endingRegExp(pattern);
    } catch {
      throw new UserError(`${place}: the pattern ${JSON.stringify(pattern)} is not a regular expression`);
    }
  }
}

/**
 * Checks a PEFT configuration. PEFT's defaults stand in for absent keys.
 * @throws UserError naming `place`, the key and its value for whatever is not plain LoRA: a key of PEFT's
 * that is not implemented and not at its default, or an unknown key that is not null, false or empty.
 */
export function checkPeftConfig(place: string, value: unknown): PeftLoraConfig {
  const raw = checkJson(place, value, z.record(z.string(), z.unknown()));
  const config = checkJson(place, raw, loraSchema);
  for (const [key, found] of Object.entries(raw)) {
    if (HARMLESS.has(key) || isEmpty(found)) continue;
    if (Object.hasOwn(NEUTRAL, key) && found === NEUTRAL[key]) continue;
    throw new UserError(`${place}: ${key} ${JSON.stringify(found)} is not implemented`);
  }
  refuseBadPatterns(place, { ...config.rank_pattern, ...config.alpha_pattern });
  return config;
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** A configuration with PEFT's defaults where `given` has no key. */
export function peftLoraConfig(given: Partial<Omit<PeftLoraConfig, 'peft_type'>>): PeftLoraConfig {
  return checkPeftConfig('the LoRA configuration', { ...given, peft_type: 'LORA' });
}

/**
 * Reads an adapter folder; F16 and BF16 matrices come as float32.
 * @throws UserError when a file is missing or broken, the configuration is not plain LoRA, or a matrix is
 * missing, of another shape than its rank says, or no LoRA matrix.
 */
export async function readAdapter(folder: string): Promise<Adapter> {
  const configPath = join(folder, CONFIG);
  const path = join(folder, WEIGHTS);
  if (!(await exists(configPath)))
    throw new UserError(`${folder} is not an adapter folder: it has no ${CONFIG}`);
  const config = checkPeftConfig(configPath, await readJson(configPath, z.unknown()));
  if (!(await exists(path))) throw new UserError(`${folder} has no ${WEIGHTS}`);
  const found = new Map<string, TensorInfo>();
  for (const info of (await readSafetensorsHeader(path)).tensors.values()) {
    const key = keyOfFileName(info.name);
    if (key === undefined) {
      throw new UserError(
        `${path}: tensor "${info.name}" is no LoRA matrix, expected ${WEIGHT_PREFIX}<module>.lora_A.weight or lora_B`,
      );
    }
    found.set(key, info);
  }
  checkMatrices(path, config, found);
  const tensors = new Map<string, AdapterTensor>();
  for (const [key, info] of found) tensors.set(key, { shape: info.shape, data: await readTensorF32(info) });
  return { config, tensors };
}

function fileNameOf(key: string): string {
  return `${WEIGHT_PREFIX}${key}.weight`;
}

function keyOfFileName(name: string): string | undefined {
  if (!name.startsWith(WEIGHT_PREFIX) || !name.endsWith('.weight')) return undefined;
  const key = name.slice(WEIGHT_PREFIX.length, -'.weight'.length);
  return splitAdapterKey(key) === undefined ? undefined : key;
}

/** Every site has A of [r, in] and B of [out, r], with the rank that the configuration gives it. */
function checkMatrices(
  path: string,
  config: PeftLoraConfig,
  tensors: ReadonlyMap<string, { shape: readonly number[] }>,
): void {
  if (tensors.size === 0) throw new UserError(`${path} has no LoRA matrix`);
  for (const site of adapterSites(tensors)) {
    const r = rankOf(config, site);
    for (const part of PARTS) {
      const shape = tensors.get(adapterKey(site, part))?.shape;
      if (shape === undefined) throw new UserError(`${path}: ${site} lacks its ${part}`);
      const rank = shape[part === 'lora_A' ? 0 : 1];
      if (shape.length !== 2 || sizeOf(shape) === 0 || rank !== r) {
        const expected = part === 'lora_A' ? `[${r}, in]` : `[out, ${r}]`;
        throw new UserError(
          `${path}: ${part} of ${site} has shape [${shape.join(', ')}], expected ${expected}`,
        );
      }
    }
  }
}

/**
 * Writes adapter_config.json and adapter_model.safetensors (float32) into `folder`, as PEFT's
 * save_pretrained does. `tensors` go by adapterKey(site, part).
 * Give it the temporary folder of writeFolderAtomic, so that no half-written adapter is ever seen.
 */
export async function writeAdapter(
  folder: string,
  config: PeftLoraConfig,
  tensors: ReadonlyMap<string, AdapterTensor>,
): Promise<void> {
  const path = join(folder, WEIGHTS);
  checkMatrices(path, config, tensors);
  const entries = [...tensors].map(([key, { shape, data }]): TensorEntry => {
    if (splitAdapterKey(key) === undefined) throw new Error(`"${key}" names no site and part`);
    return { name: fileNameOf(key), dtype: 'F32', shape, data: () => encodeF32(data, 'float32') };
  });
  await writeSafetensors(path, entries, { format: 'pt' });
  await writeFileAtomic(join(folder, CONFIG), encodeConfig(config));
}

/** PEFT's own layout: all keys, sorted, two spaces. */
function encodeConfig(config: PeftLoraConfig): string {
  const all = Object.entries({ ...NEUTRAL, ...IDLE, ...config, inference_mode: true });
  return JSON.stringify(Object.fromEntries(all.sort(([a], [b]) => (a < b ? -1 : 1))), null, 2);
}
