/**
 * Adapters in PEFT's folder format: adapter_config.json with PEFT's keys and
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
  kindName,
  kindOf,
  type PeftConfig,
  trainableTokens,
} from './peftConfig.js';
import { stackedExperts } from './peftExperts.js';
import type { PartShape } from './peftKind.js';
import {
  type AdapterPart,
  adapterKey,
  adapterSites,
  exampleName,
  keyOfFileName,
  peftFileName,
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
  /** It came with `target_parameters`, by the names that modules have in transformers 5: of so many stacked experts, or of none. */
  experts?: number;
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
  const read = await readJson(configPath, z.unknown());
  const stacked = stackedExperts(configPath, read);
  const raw = stacked?.config ?? read;
  const startedBy = started ? foundStartOf(raw) : undefined;
  const config = checkPeftConfig(
    configPath,
    startedBy ? { ...(raw as object), init_lora_weights: true } : raw,
  );
  if (!(await exists(path))) throw await missingWeights(folder);
  const isCopy = (module: string) => isSavedModule(config.modules_to_save ?? [], module);
  const found = new Map<string, TensorInfo>();
  const infos = [...(await readSafetensorsHeader(path)).tensors.values()];
  const ofExperts = infos.filter(({ name }) => stacked?.isStacked(name));
  for (const info of infos) {
    if (ofExperts.includes(info)) continue;
    const key = keyOfFileName(info.name, isCopy);
    if (key === null) continue;
    if (key === undefined || !expectedShape(config, key)) {
      const [first] = partNames(partsOf(config, ''));
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
  const split = stacked && ofExperts.length > 0 ? await stacked.split(path, ofExperts) : undefined;
  checkTensors(
    path,
    config,
    new Map<string, Pick<AdapterTensor, 'shape'>>([...found, ...(split?.tensors ?? [])]),
  );
  const tensors = new Map<string, AdapterTensor>(split?.tensors);
  for (const [key, info] of found) tensors.set(key, { shape: info.shape, data: await readFinite(info) });
  return {
    config,
    tensors,
    ...(stacked && { experts: split?.experts ?? 0 }),
    ...(startedBy && { startedBy }),
  };
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

/** The parts that every site of a name has, in their shapes. */
function partsOf(config: PeftConfig, site: string, embedding = false) {
  return kindOf(config).parts(config, site, embedding);
}

const partNames = (parts: Partial<Record<AdapterPart, PartShape>>) => Object.keys(parts) as AdapterPart[];

/** The shape of a tensor as far as the configuration tells it, sizes of the model by name; undefined for another's. */
function expectedShape(config: PeftConfig, key: string): PartShape | undefined {
  const shared = kindOf(config).shared?.(config) ?? {};
  if (Object.hasOwn(shared, key)) return shared[key];
  const split = splitAdapterKey(key);
  if (!split) return expectedOfModule(config, key);
  return { ...partsOf(config, split.site), ...partsOf(config, split.site, true) }[split.part];
}

/** An adapter's sizes [out, in] of a site, as far as its tensors tell them. */
export function sizesOf(
  config: PeftConfig,
  site: string,
  shapes: ReadonlyMap<string, readonly number[]>,
): { in: number | null; out: number | null } {
  const named = new Map<number | string, number>();
  for (const embedding of [false, true]) {
    const parts = partsOf(config, site, embedding);
    for (const part of partNames(parts)) {
      const found = shapes.get(adapterKey(site, part));
      parts[part]?.forEach((dim, i) => {
        if (found) named.set(dim, found[i]);
      });
    }
  }
  return { in: named.get('in') ?? null, out: named.get('out') ?? null };
}

/** The same of what an adapter holds beside its method's tensors. */
function expectedOfModule(config: PeftConfig, key: string): PartShape | undefined {
  const own = splitModuleKey(key);
  if (!own) return undefined;
  const { module, part } = own;
  const saved = isSavedModule(config.modules_to_save ?? [], module);
  if (part === 'base_weight') return ['out', 'in'];
  if (part === 'bias') return saved || ('bias' in config && config.bias !== 'none') ? ['out'] : undefined;
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
  for (const shared of Object.keys(kindOf(config).shared?.(config) ?? {})) {
    if (!tensors.has(shared)) {
      throw new UserError(`${path} lacks ${peftFileName(shared)}: save with save_projection=True`);
    }
  }
  for (const site of sites) {
    const own = partsOf(config, site);
    const all = { ...own, ...partsOf(config, site, true) };
    const embedding = partNames(all).some((part) => !(part in own) && tensors.has(adapterKey(site, part)));
    for (const part of partNames(partsOf(config, site, embedding))) {
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
