/**
 * LoRA, DoRA and VeRA adapters in PEFT's folder format: adapter_config.json with PEFT's keys and
 * adapter_model.safetensors with PEFT's tensor names (written and checked against PEFT 0.21.2).
 */
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { encodeF32 } from './float16.js';
import { exists, readJson, writeFileAtomic } from './io/node.js';
import { checkPeftConfig, encodePeftConfig, type PeftConfig, rankOf } from './peftConfig.js';
import {
  readSafetensorsHeader,
  readTensorF32,
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
  lora_magnitude_vector: '.lora_magnitude_vector',
  vera_lambda_b: '.vera_lambda_b',
  vera_lambda_d: '.vera_lambda_d',
} as const;
export type AdapterPart = keyof typeof PART_ENDS;
const PARTS = Object.keys(PART_ENDS) as AdapterPart[];

/** Tensors that all sites share. */
const SHARED = ['vera_A', 'vera_B'];

/** One tensor of an adapter, row-major. */
export interface AdapterTensor {
  shape: readonly number[];
  data: Float32Array;
}

export interface Adapter {
  config: PeftConfig;
  /** By adapterKey(site, part) ("model.layers.0.self_attn.q_proj.lora_A"), or a shared tensor's name. */
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

/** The sites of an adapter, in the order of its tensors. */
export function adapterSites(tensors: ReadonlyMap<string, unknown>): string[] {
  return [...new Set([...tensors.keys()].flatMap((key) => splitAdapterKey(key)?.site ?? []))];
}

/** The tensor's name in PEFT's file. */
export function peftFileName(key: string): string {
  if (SHARED.includes(key)) return `${SHARED_PREFIX}${key}`;
  const split = splitAdapterKey(key);
  if (!split) throw new Error(`"${key}" names no site and part`);
  return `${SITE_PREFIX}${split.site}${PART_ENDS[split.part]}`;
}

function keyOfFileName(name: string): string | undefined {
  const shared = SHARED.find((key) => name === `${SHARED_PREFIX}${key}`);
  if (shared || !name.startsWith(SITE_PREFIX)) return shared;
  const part = PARTS.find((p) => name.endsWith(PART_ENDS[p]));
  const site = part && name.slice(SITE_PREFIX.length, -PART_ENDS[part].length);
  return part && site ? adapterKey(site, part) : undefined;
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
  for (const [key, info] of found) tensors.set(key, { shape: info.shape, data: await readTensorF32(info) });
  return { config, tensors };
}

/** The field's name of what a configuration describes. */
export function kindName(config: PeftConfig): 'LoRA' | 'DoRA' | 'VeRA' {
  if (config.peft_type === 'VERA') return 'VeRA';
  return config.use_dora ? 'DoRA' : 'LoRA';
}

function partsOf(config: PeftConfig): AdapterPart[] {
  if (config.peft_type === 'VERA') return ['vera_lambda_b', 'vera_lambda_d'];
  return config.use_dora ? ['lora_A', 'lora_B', 'lora_magnitude_vector'] : ['lora_A', 'lora_B'];
}

/** The shape of a tensor as far as the configuration tells it, sizes of the model by name; undefined for another's. */
function expectedShape(config: PeftConfig, key: string): readonly (number | string)[] | undefined {
  if (config.peft_type === 'VERA' && key === 'vera_A') return [config.r, 'in'];
  if (config.peft_type === 'VERA' && key === 'vera_B') return ['out', config.r];
  const split = splitAdapterKey(key);
  if (!split || !partsOf(config).includes(split.part)) return undefined;
  const r = rankOf(config, split.site);
  const shapes = {
    lora_A: [r, 'in'],
    lora_B: ['out', r],
    lora_magnitude_vector: ['out'],
    vera_lambda_b: ['out'],
    vera_lambda_d: [r],
  };
  return shapes[split.part];
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
    for (const part of partsOf(config)) {
      if (!tensors.has(adapterKey(site, part))) throw new UserError(`${path}: ${site} lacks its ${part}`);
    }
  }
  for (const [key, { shape }] of tensors) {
    const expected = expectedShape(config, key)!;
    const fits =
      shape.length === expected.length &&
      sizeOf(shape) > 0 &&
      expected.every((d, i) => typeof d === 'string' || d === shape[i]);
    if (fits) continue;
    const split = splitAdapterKey(key);
    const what = split ? `${split.part} of ${split.site}` : key;
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
  const entries = [...tensors].map(([key, { shape, data }]): TensorEntry => {
    return { name: peftFileName(key), dtype: 'F32', shape, data: () => encodeF32(data, 'float32') };
  });
  await writeSafetensors(path, entries, { format: 'pt' });
  await writeFileAtomic(join(folder, CONFIG), encodePeftConfig(config));
}
