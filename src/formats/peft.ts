/**
 * LoRA, DoRA and VeRA adapters in PEFT's folder format: adapter_config.json with PEFT's keys and
 * adapter_model.safetensors with PEFT's tensor names (written and checked against PEFT 0.21.2).
 */
import { readdir } from 'node:fs/promises';
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
  type FoundStart,
  foundStartOf,
  isSavedModule,
  type PeftConfig,
  rankOf,
  trainableTokens,
} from './peftConfig.js';
import {
  type AdapterPart,
  adapterKey,
  adapterSites,
  exampleName,
  keyOfFileName,
  peftFileName,
  SHARED,
  splitAdapterKey,
  splitModuleKey,
} from './peftNames.js';
import {
  readFinite,
  readSafetensorsHeader,
  type TensorEntry,
  type TensorInfo,
  writeSafetensors,
} from './safetensors.js';

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
const EMBEDDING_PARTS = ['lora_embedding_A', 'lora_embedding_B'] as const;

/** One tensor of an adapter, row-major. */
export interface AdapterTensor {
  shape: readonly number[];
  data: Float32Array;
}

export interface AdapterFiles {
  config: PeftConfig;
  /**
   * By adapterKey(site, part) ("model.layers.0.self_attn.q_proj.lora_A"), module and part ("lm_head.weight"), or a
   * shared tensor's name.
   */
  tensors: Map<string, AdapterTensor>;
  /** What started A and B in a part of the base, which is to be taken out of the base again. */
  startedBy?: FoundStart;
}

/**
 * Reads an adapter folder; F16 and BF16 tensors come as float32. With
 * `started` also one that has to be `startedBy` something, for who takes care of that.
 * @throws UserError when a file is missing or broken, the configuration asks for what is not implemented, or a
 * tensor is missing, of another shape than the configuration says, or none of such an adapter.
 */
export async function readAdapter(folder: string, { started = false } = {}): Promise<AdapterFiles> {
  const configPath = join(folder, CONFIG);
  const path = join(folder, WEIGHTS);
  if (!(await exists(configPath)))
    throw new UserError(`${folder} is not an adapter folder: it has no ${CONFIG}`);
  const raw = await readJson(configPath, z.unknown());
  const startedBy = started ? foundStartOf(raw) : undefined;
  const config = checkPeftConfig(
    configPath,
    startedBy ? { ...(raw as object), init_lora_weights: true } : raw,
  );
  if (!(await exists(path))) throw await missingWeights(folder);
  const isCopy = (module: string) => isSavedModule(config.modules_to_save ?? [], module);
  const found = new Map<string, TensorInfo>();
  for (const info of (await readSafetensorsHeader(path)).tensors.values()) {
    const key = keyOfFileName(info.name, isCopy);
    if (key === null) continue;
    if (key === undefined || !expectedShape(config, key)) {
      const [first] = partsOf(config);
      throw new UserError(
        `${path}: tensor "${info.name}" is not of a ${kindName(config)} adapter, expected ${exampleName(first)} and its like`,
      );
    }
    const other = found.get(key);
    // A head's matrix stands under the name of each of its homes, which are equal.
    if (other && splitModuleKey(key)?.part !== 'base_weight') {
      throw new UserError(`${path}: tensors "${other.name}" and "${info.name}" are one`);
    }
    found.set(key, info);
  }
  checkTensors(path, config, found);
  const tensors = new Map<string, AdapterTensor>();
  for (const [key, info] of found) tensors.set(key, { shape: info.shape, data: await readFinite(info) });
  return { config, tensors, ...(startedBy && { startedBy }) };
}

/** Why a folder without its weights has none that is read. */
async function missingWeights(folder: string): Promise<UserError> {
  const names = await readdir(folder);
  const pickle = names.find((name) => /^adapter_model\.(bin|pt|pth)$/.test(name));
  if (pickle === undefined) return new UserError(`${folder} has no ${WEIGHTS}`);
  return new UserError(
    `${folder} has ${pickle}, a pickle, which is a program and is not read; write it as ${WEIGHTS} in Python: ` +
      `from safetensors.torch import save_file; import torch; save_file(torch.load("${pickle}", weights_only=True), "${WEIGHTS}")`,
  );
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
  if (!own) return undefined;
  const { module, part } = own;
  const saved = isSavedModule(config.modules_to_save ?? [], module);
  if (part === 'base_weight') return ['out', 'in'];
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
      throw new UserError(`${path} lacks ${peftFileName(shared)}: save with save_projection=True`);
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
  const entries = [...tensors].map(([key, { shape, data }]): TensorEntry => {
    return { name: peftFileName(key, tensors), dtype: 'F32', shape, data: () => encodeF32(data, 'float32') };
  });
  await writeSafetensors(path, entries, { format: 'pt' });
  await writeFileAtomic(join(folder, CONFIG), encodePeftConfig(config));
}
