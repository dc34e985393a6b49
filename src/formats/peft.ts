/**
 * LoRA, DoRA and VeRA adapters in PEFT's folder format: adapter_config.json with PEFT's keys and
 * adapter_model.safetensors with PEFT's tensor names (written and checked against PEFT 0.21.2).
 */
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { encodeF32 } from './float16.js';
import { exists, readJson } from './io/node.js';
import { writeFileAtomic } from './io/write.js';
import {
  checkPeftConfig,
  encodePeftConfig,
  isSavedModule,
  type PeftConfig,
  rankOf,
  trainableTokens,
} from './peftConfig.js';
import {
  readFinite,
  readSafetensorsHeader,
  type TensorEntry,
  type TensorInfo,
  writeSafetensors,
} from './safetensors.js';

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
const SITE_PREFIX = 'base_model.model.';
const SHARED_PREFIX = 'base_model.';

/** A site's tensors, and what their names end with in the file. */
const PART_ENDS = {
  lora_A: '.lora_A.weight',
  lora_B: '.lora_B.weight',
  lora_bias: '.lora_B.bias',
  lora_embedding_A: '.lora_embedding_A',
  lora_embedding_B: '.lora_embedding_B',
  lora_magnitude_vector: '.lora_magnitude_vector',
  adalora_A: '.lora_A',
  adalora_E: '.lora_E',
  adalora_B: '.lora_B',
  vera_lambda_b: '.vera_lambda_b',
  vera_lambda_d: '.vera_lambda_d',
} as const;
export type AdapterPart = keyof typeof PART_ENDS;
const PARTS = Object.keys(PART_ENDS) as AdapterPart[];

/**
 * What an adapter holds of modules beside its sites' own tensors: rows of an embedding, full copies (modules_to_save) and
 * biases, and with the embeddings among its targets the base's matrix, unchanged, as PEFT adds it.
 */
const MODULE_PART_ENDS = {
  trainable_tokens_delta: '.token_adapter.trainable_tokens_delta',
  base_weight: '.base_layer.weight',
  weight: '.weight',
  bias: '.bias',
} as const;
export type ModulePart = keyof typeof MODULE_PART_ENDS;
const MODULE_PARTS = Object.keys(MODULE_PART_ENDS) as ModulePart[];
/** How the bias of a module that is a site ends. */
const SITE_BIAS = '.base_layer.bias';

const EMBEDDING_PARTS = ['lora_embedding_A', 'lora_embedding_B'] as const;

/** Tensors that all sites share. */
const SHARED = ['vera_A', 'vera_B'];

/** One tensor of an adapter, row-major. */
export interface AdapterTensor {
  shape: readonly number[];
  data: Float32Array;
}

export interface Adapter {
  config: PeftConfig;
  /**
   * By adapterKey(site, part) ("model.layers.0.self_attn.q_proj.lora_A"), module and part ("lm_head.weight"), or a
   * shared tensor's name.
   */
  tensors: Map<string, AdapterTensor>;
}

/** The key of a site's tensor in Adapter.tensors, e.g. "model.layers.0.self_attn.q_proj.lora_A". */
export function adapterKey(site: string, part: AdapterPart): string {
  return `${site}.${part}`;
}

/** The site and part that adapterKey joined; undefined for any other text. */
export function splitAdapterKey(key: string): { site: string; part: AdapterPart } | undefined {
  const dot = key.lastIndexOf('.');
  const part = PARTS.find((p) => p === key.slice(dot + 1));
  return part === undefined || dot < 1 ? undefined : { site: key.slice(0, dot), part };
}

/** The module and part of a tensor that belongs to no site's method ("lm_head.weight"); undefined for any other text. */
export function splitModuleKey(key: string): { module: string; part: ModulePart } | undefined {
  const dot = key.lastIndexOf('.');
  const part = MODULE_PARTS.find((p) => p === key.slice(dot + 1));
  return part === undefined || dot < 1 ? undefined : { module: key.slice(0, dot), part };
}

/** The sites of an adapter, in the order of its tensors. */
export function adapterSites(tensors: ReadonlyMap<string, unknown>): string[] {
  return [...new Set([...tensors.keys()].flatMap((key) => splitAdapterKey(key)?.site ?? []))];
}

/** The tensor's name in PEFT's file, where `sites` are those of the adapter: it says where their own bias is. */
export function peftFileName(key: string, sites: ReadonlySet<string> = new Set()): string {
  if (SHARED.includes(key)) return `${SHARED_PREFIX}${key}`;
  const split = splitAdapterKey(key);
  if (split) return `${SITE_PREFIX}${split.site}${PART_ENDS[split.part]}`;
  const own = splitModuleKey(key);
  if (!own) throw new Error(`"${key}" names no part of a site or module`);
  const end = own.part === 'bias' && sites.has(own.module) ? SITE_BIAS : MODULE_PART_ENDS[own.part];
  return `${SITE_PREFIX}${own.module}${end}`;
}

function keyOfFileName(name: string): string | undefined {
  const shared = SHARED.find((key) => name === `${SHARED_PREFIX}${key}`);
  if (shared || !name.startsWith(SITE_PREFIX)) return shared;
  const key = (end: string, part: string) => {
    const module = name.slice(SITE_PREFIX.length, -end.length);
    return module === '' ? undefined : `${module}.${part}`;
  };
  const part = PARTS.find((p) => name.endsWith(PART_ENDS[p]));
  if (part) return key(PART_ENDS[part], part);
  if (name.endsWith(SITE_BIAS)) return key(SITE_BIAS, 'bias');
  const own = MODULE_PARTS.find((p) => name.endsWith(MODULE_PART_ENDS[p]));
  return own && key(MODULE_PART_ENDS[own], own);
}

/**
 * Reads an adapter folder; F16 and BF16 tensors come as float32.
 * @throws UserError when a file is missing or broken, the configuration asks for what is not implemented, or a
 * tensor is missing, of another shape than the configuration says, or none of such an adapter.
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
    if (key === undefined || !expectedShape(config, key)) {
      const [first] = partsOf(config);
      throw new UserError(
        `${path}: tensor "${info.name}" is not of a ${kindName(config)} adapter, ` +
          `expected ${SITE_PREFIX}<module>${PART_ENDS[first]} and its like`,
      );
    }
    found.set(key, info);
  }
  checkTensors(path, config, found);
  const tensors = new Map<string, AdapterTensor>();
  for (const [key, info] of found) tensors.set(key, { shape: info.shape, data: await readFinite(info) });
  return { config, tensors };
}

/** The field's name of what a configuration describes. */
export function kindName(config: PeftConfig): 'LoRA' | 'DoRA' | 'VeRA' | 'AdaLoRA' {
  if (config.peft_type === 'ADALORA') return 'AdaLoRA';
  if (config.peft_type === 'VERA') return 'VeRA';
  return config.use_dora ? 'DoRA' : 'LoRA';
}

/** The parts that every site has; those of an embedding are of its own. */
function partsOf(config: PeftConfig, embedding = false): AdapterPart[] {
  if (config.peft_type === 'VERA') return ['vera_lambda_b', 'vera_lambda_d'];
  if (config.peft_type === 'ADALORA') return ['adalora_A', 'adalora_E', 'adalora_B'];
  const parts: AdapterPart[] = embedding ? ['lora_embedding_A', 'lora_embedding_B'] : ['lora_A', 'lora_B'];
  if (config.lora_bias && !embedding) parts.push('lora_bias');
  if (config.use_dora) parts.push('lora_magnitude_vector');
  return parts;
}

/** The shape of a tensor as far as the configuration tells it, sizes of the model by name; undefined for another's. */
function expectedShape(config: PeftConfig, key: string): readonly (number | string)[] | undefined {
  if (config.peft_type === 'VERA' && key === 'vera_A') return [config.r, 'in'];
  if (config.peft_type === 'VERA' && key === 'vera_B') return ['out', config.r];
  const split = splitAdapterKey(key);
  if (!split) return expectedOfModule(config, key);
  if (![...partsOf(config), ...partsOf(config, true)].includes(split.part)) return undefined;
  const r = rankOf(config, split.site);
  const shapes = {
    lora_A: [r, 'in'],
    lora_B: ['out', r],
    lora_bias: ['out'],
    lora_embedding_A: [r, 'in'],
    lora_embedding_B: ['out', r],
    lora_magnitude_vector: ['out'],
    adalora_A: [r, 'in'],
    adalora_E: [r, 1],
    adalora_B: ['out', r],
    vera_lambda_b: ['out'],
    vera_lambda_d: [r],
  };
  return shapes[split.part];
}

/** The same of what an adapter holds beside its method's tensors. */
function expectedOfModule(config: PeftConfig, key: string): readonly (number | string)[] | undefined {
  const own = splitModuleKey(key);
  if (!own || config.peft_type === 'ADALORA') return undefined;
  const { module, part } = own;
  const saved = isSavedModule(config.modules_to_save ?? [], module);
  if (part === 'base_weight') return config.peft_type === 'LORA' ? ['out', 'in'] : undefined;
  if (part === 'bias') return saved || config.bias !== 'none' ? ['out'] : undefined;
  // A norm's gain is a vector.
  if (part === 'weight') return saved ? (/norm$/.test(module) ? ['out'] : ['out', 'in']) : undefined;
  const rows = [...trainableTokens(config)].find(([end]) => module === end || module.endsWith(`.${end}`));
  return rows && [rows[1].length, 'in'];
}

/** Every site has all its parts, and the adapter its shared tensors, in the shapes that the configuration gives. */
function checkTensors(
  path: string,
  config: PeftConfig,
  tensors: ReadonlyMap<string, { shape: readonly number[] }>,
): void {
  const sites = adapterSites(tensors);
  if (sites.length === 0) throw new UserError(`${path} has no ${kindName(config)} matrix`);
  for (const shared of config.peft_type === 'VERA' ? SHARED : []) {
    if (!tensors.has(shared)) {
      throw new UserError(`${path} lacks ${SHARED_PREFIX}${shared}: save with save_projection=True`);
    }
  }
  for (const site of sites) {
    const embedding = EMBEDDING_PARTS.some((part) => tensors.has(adapterKey(site, part)));
    for (const part of partsOf(config, embedding)) {
      if (!tensors.has(adapterKey(site, part))) throw new UserError(`${path}: ${site} lacks its ${part}`);
    }
  }
  for (const [key, { shape }] of tensors) {
    const expected = expectedShape(config, key)!;
    const fits =
      shape.length === expected.length &&
      // Every rank of an AdaLoRA site may be pruned.
      (sizeOf(shape) > 0 || expected.includes(0)) &&
      expected.every((d, i) => typeof d === 'string' || d === shape[i]);
    if (fits) continue;
    const split = splitAdapterKey(key);
    const own = splitModuleKey(key);
    const what = split ? `${split.part} of ${split.site}` : own ? `${own.part} of ${own.module}` : key;
    throw new UserError(
      `${path}: ${what} has shape [${shape.join(', ')}], expected [${expected.join(', ')}]`,
    );
  }
}

/**
 * Writes adapter_config.json and adapter_model.safetensors (float32) into `folder`, as PEFT's
 * save_pretrained does. `tensors` go by adapterKey(site, part) or a shared tensor's name.
 * Give it the temporary folder of writeFolderAtomic, so that no half-written adapter is ever seen.
 */
export async function writeAdapter(
  folder: string,
  config: PeftConfig,
  tensors: ReadonlyMap<string, AdapterTensor>,
): Promise<void> {
  const path = join(folder, WEIGHTS);
  checkTensors(path, config, tensors);
  const sites = new Set(adapterSites(tensors));
  const entries = [...tensors].map(([key, { shape, data }]): TensorEntry => {
    return { name: peftFileName(key, sites), dtype: 'F32', shape, data: () => encodeF32(data, 'float32') };
  });
  await writeSafetensors(path, entries, { format: 'pt' });
  await writeFileAtomic(join(folder, CONFIG), encodePeftConfig(config));
}
