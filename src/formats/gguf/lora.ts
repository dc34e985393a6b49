/**
 * LoRA adapters as llama.cpp reads them (llama-adapter.cpp): matrices `<tensor>.lora_a` [r, in] and `.lora_b`
 * [out, r] under the names of the base's own GGUF file and in its order of rows, and one alpha for all. A layer
 * computes x·Wᵀ + (alpha / rank)·x·Aᵀ·Bᵀ with the rank of its own matrices, and with alpha 0 without that factor.
 */
import { UserError } from '../../base/errors.js';
import { refuseNonFinite } from '../../base/finite.js';
import type { StoredDType } from '../../base/tensor.js';
import { mostCommon, patternsOf, targetsOf } from '../adapterNames.js';
import { encodeF32 } from '../float16.js';
import type { AdapterFiles, AdapterTensor } from '../peft.js';
import {
  isPlainLora,
  kindName,
  type PeftLoraConfig,
  peftLoraConfig,
  rankOf,
  scalingOf,
} from '../peftConfig.js';
import { adapterKey, adapterSites, splitAdapterKey, splitModuleKey } from '../peftNames.js';
import { Metadata, shortestF32 } from './metadata.js';
import { type Gguf, type GgufTensor, readGguf, readGgufTensor } from './reader.js';
import { fromGgufRows, type GgufWeight, type RowOrder, toGgufRows } from './rows.js';
import { GGUF_DTYPES } from './types.js';
import { type GgufEntry, type GgufField, writeGguf } from './writer.js';

/** The linear layers of a base model: what an adapter can be for. */
export interface LoraBase {
  /** Names the base in errors. */
  place: string;
  /** llama.cpp's name of the architecture. */
  architecture: string;
  vocabSize: number;
  /** By site, in the model's order. */
  layers: ReadonlyMap<string, LoraLayer>;
}

/** An adapter that is plain LoRA. */
export type LoraAdapter = AdapterFiles & { config: PeftLoraConfig };

interface LoraLayer {
  /** Of the base's matrix in its GGUF file: blk.0.attn_q.weight */
  tensor: string;
  in: number;
  out: number;
  /** Absent: llama.cpp has the rows as the model does. */
  rows?: RowOrder;
  /** It is one of many in that tensor: no adapter is written for it. */
  isExpert?: boolean;
}

/** The layers of a base, from its tensors' names and shapes alone. `architecture` is llama.cpp's name. */
export function loraBase(
  place: string,
  architecture: string,
  vocabSize: number,
  weights: readonly GgufWeight[],
): LoraBase {
  const layers = new Map<string, LoraLayer>();
  for (const { gguf, hf, shape, isLinear, rows, part } of weights) {
    if (!isLinear) continue;
    const layer = { tensor: gguf, in: shape[1], out: shape[0], rows, isExpert: part !== undefined };
    layers.set(hf.slice(0, -'.weight'.length), layer);
  }
  return { place, architecture, vocabSize, layers };
}

/** Throws UserError where an adapter holds more than the two matrices of linear layers: llama.cpp has no place for it. */
function refuseMore(place: string, tensors: ReadonlyMap<string, AdapterTensor>): void {
  for (const key of tensors.keys()) {
    const part = splitAdapterKey(key)?.part;
    if (part === 'lora_A' || part === 'lora_B') continue;
    // A copy of the base's own matrix, which PEFT adds.
    if (splitModuleKey(key)?.part === 'base_weight') continue;
    const way = part === 'lora_bias' ? 'train without lora_bias' : 'merge it and convert the model';
    throw new UserError(
      `${place}: a GGUF adapter holds the A and B of linear layers only, and this one has ${key}; ${way}`,
    );
  }
}

/** Throws UserError where an adapter has a layer that the base has not, or of another size. `place` names the adapter. */
export function checkFits(place: string, { tensors }: Pick<AdapterFiles, 'tensors'>, base: LoraBase): void {
  const resized = [...tensors].find(
    ([key, { shape }]) => splitModuleKey(key)?.part === 'base_weight' && shape[0] !== base.vocabSize,
  );
  if (resized) {
    throw new UserError(
      `${place} has a vocabulary of ${resized[1].shape[0]} tokens and ${base.place} one of ${base.vocabSize}, which a GGUF ` +
        'adapter has no place for; merge it and convert the model',
    );
  }
  for (const site of adapterSites(tensors)) {
    if (!tensors.has(adapterKey(site, 'lora_A'))) continue;
    const layer = base.layers.get(site);
    if (layer?.isExpert) {
      throw new UserError(
        `${place}: ${site} is in an expert, and GGUF adapters of experts are not written or read; merge it and convert the model`,
      );
    }
    if (layer === undefined) {
      throw new UserError(`${place}: ${site} is no linear layer of its own in ${base.place}`);
    }
    const [inputs, outputs] = [inputsOf(tensors, site), outputsOf(tensors, site)];
    if (inputs !== layer.in || outputs !== layer.out) {
      throw new UserError(
        `${place}: ${site} is ${outputs} × ${inputs}, in ${base.place} it is ${layer.out} × ${layer.in}`,
      );
    }
  }
}

const inputsOf = (tensors: ReadonlyMap<string, AdapterTensor>, site: string) =>
  tensors.get(adapterKey(site, 'lora_A'))!.shape[1];
const outputsOf = (tensors: ReadonlyMap<string, AdapterTensor>, site: string) =>
  tensors.get(adapterKey(site, 'lora_B'))!.shape[0];

/**
 * Writes an adapter for llama.cpp. The file's alpha is the one that leaves most matrices as they are; where PEFT's
 * scale is another (rsLoRA over several ranks, alpha_pattern), the quotient goes into B.
 * `place` names the adapter in errors.
 * @throws UserError when the adapter does not fit the base, is not plain LoRA, or has values beyond `dtype`.
 */
export async function writeLoraGguf(
  path: string,
  place: string,
  adapter: AdapterFiles,
  base: LoraBase,
  dtype: StoredDType = 'float32',
): Promise<void> {
  const { config, tensors } = adapter;
  if (!isPlainLora(config)) {
    throw new UserError(
      `${place} is a ${kindName(config)} adapter, and llama.cpp reads only LoRA; merged (lowrank merge), the whole model can be converted by llama.cpp's own script`,
    );
  }
  refuseMore(place, tensors);
  checkFits(place, adapter, base);
  const alpha = alphaOf(place, config, adapterSites(tensors));
  const fields: GgufField[] = [
    { key: 'general.architecture', type: 'string', value: base.architecture },
    { key: 'general.type', type: 'string', value: 'adapter' },
    { key: 'general.file_type', type: 'uint32', value: GGUF_DTYPES[dtype].fileType },
    { key: 'adapter.type', type: 'string', value: 'lora' },
    { key: 'adapter.lora.alpha', type: 'float32', value: alpha },
  ];
  const entries = [...base.layers].flatMap(([site, layer]): GgufEntry[] => {
    const a = tensors.get(adapterKey(site, 'lora_A'));
    const b = tensors.get(adapterKey(site, 'lora_B'));
    if (a === undefined || b === undefined) return [];
    const entry = (suffix: string, shape: readonly number[], values: () => Float32Array): GgufEntry => ({
      name: `${layer.tensor}.${suffix}`,
      dtype,
      shape,
      data: () => encodeF32(values(), dtype),
    });
    return [
      entry('lora_a', a.shape, () => a.data),
      entry('lora_b', b.shape, () => {
        const wanted = scalingOf(config, site) * rankOf(config, site);
        const scaled = Math.fround(wanted) === alpha ? b.data : b.data.map((x) => x * (wanted / alpha));
        return toGgufRows(scaled, layer.out, layer.rows);
      }),
    ];
  });
  await writeGguf(path, fields, entries);
}

/** The alpha that is right for most layers. Never 0, which llama.cpp takes for "no scale". */
function alphaOf(place: string, config: PeftLoraConfig, sites: readonly string[]): number {
  const alphas = sites.map((site) => Math.fround(scalingOf(config, site) * rankOf(config, site)));
  const large = alphas.find((alpha) => !Number.isFinite(alpha));
  if (large !== undefined) throw new UserError(`${place}: its lora_alpha is beyond float32`);
  const scaled = alphas.filter((alpha) => alpha !== 0);
  return scaled.length > 0 ? mostCommon(scaled) : 1;
}

/** Whether the GGUF file holds an adapter and no model. */
export function isAdapterGguf({ metadata }: Pick<Gguf, 'metadata'>): boolean {
  return metadata.get('general.type') === 'adapter';
}

/**
 * Reads llama.cpp's LoRA adapter for a base as PEFT has it; quantized matrices come as float32.
 * @throws UserError when the file is broken, no LoRA adapter, or for another base.
 */
export async function readLoraGguf(path: string, base: LoraBase): Promise<LoraAdapter> {
  const gguf = await readGguf(path);
  const alpha = checkedAlpha(gguf, base);
  const pairs = matricesOf(gguf);
  const tensors = new Map<string, AdapterTensor>();
  const ranks = new Map<string, number>();
  for (const [site, layer] of base.layers) {
    const pair = pairs.get(layer.tensor);
    if (pair === undefined) continue;
    pairs.delete(layer.tensor);
    const rank = pair.lora_a.shape[0];
    const expect = (info: typeof pair.lora_a, shape: readonly number[]) => {
      if (String(info.shape) === String(shape)) return;
      throw new UserError(
        `${path}: tensor "${info.name}" has shape [${info.shape.join(', ')}], ${base.place} makes it [${shape.join(', ')}]`,
      );
    };
    expect(pair.lora_a, [rank, layer.in]);
    expect(pair.lora_b, [layer.out, rank]);
    const a = await readFinite(gguf, pair.lora_a);
    const b = await readFinite(gguf, pair.lora_b);
    tensors.set(adapterKey(site, 'lora_A'), { shape: pair.lora_a.shape, data: a });
    tensors.set(adapterKey(site, 'lora_B'), {
      shape: pair.lora_b.shape,
      data: fromGgufRows(b, layer.out, layer.rows),
    });
    ranks.set(site, rank);
  }
  const [foreign] = pairs.keys();
  if (foreign !== undefined) throw new UserError(`${path}: ${foreign} is no linear layer of ${base.place}`);
  return { config: configOf(ranks, alpha, base.layers.keys()), tensors };
}

async function readFinite(gguf: Gguf, info: GgufTensor): Promise<Float32Array> {
  const values = await readGgufTensor(gguf, info);
  refuseNonFinite(gguf.path, info.name, values);
  return values;
}

/**
 * What the header of llama.cpp's LoRA adapter tells without a base: the configuration, and the shapes of the matrices by
 * adapterKey(site, part). `siteOf` names the site of a tensor in models of the file's architecture.
 * @throws UserError when the file is no LoRA adapter.
 */
export function describeLoraGguf(
  gguf: Gguf,
  architecture: string,
  siteOf: (tensor: string) => string | undefined,
): {
  config: PeftLoraConfig;
  shapes: Map<string, readonly number[]>;
} {
  const alpha = checkedAlpha(gguf, { place: gguf.path, architecture });
  const shapes = new Map<string, readonly number[]>();
  const ranks = new Map<string, number>();
  for (const [tensor, { lora_a, lora_b }] of matricesOf(gguf)) {
    const site = siteOf(tensor);
    if (site === undefined)
      throw new UserError(`${gguf.path}: ${tensor} is no linear layer of ${architecture}`);
    if (lora_a.shape[0] !== lora_b.shape[1]) {
      throw new UserError(
        `${gguf.path}: the ranks of ${tensor} differ, ${lora_a.shape[0]} in lora_a and ${lora_b.shape[1]} in lora_b`,
      );
    }
    shapes.set(adapterKey(site, 'lora_A'), lora_a.shape);
    shapes.set(adapterKey(site, 'lora_B'), lora_b.shape);
    ranks.set(site, lora_a.shape[0]);
  }
  return { config: configOf(ranks, alpha), shapes };
}

function checkedAlpha(gguf: Gguf, base: Pick<LoraBase, 'place' | 'architecture'>): number {
  const meta = new Metadata(gguf);
  const kind = meta.string('general.type', 'model');
  if (kind !== 'adapter') meta.fail(`general.type is "${kind}", expected "adapter"`);
  const type = meta.string('adapter.type');
  if (type !== 'lora') meta.fail(`adapter.type is "${type}", expected "lora"`);
  if (meta.has('adapter.alora.invocation_tokens')) {
    meta.fail('this adapter acts only behind its invocation tokens (aLoRA), which is not implemented');
  }
  const architecture = meta.string('general.architecture');
  if (architecture !== base.architecture) {
    meta.fail(`this adapter is for "${architecture}", and ${base.place} is "${base.architecture}"`);
  }
  return meta.number('adapter.lora.alpha', 0);
}

/** The two matrices of each tensor that the adapter changes. */
function matricesOf(gguf: Gguf) {
  const found = new Map<string, { lora_a?: GgufInfo; lora_b?: GgufInfo }>();
  for (const info of gguf.tensors.values()) {
    const match = /^(.+)\.(lora_a|lora_b)$/.exec(info.name);
    if (match === null || info.shape.length !== 2) {
      throw new UserError(
        `${gguf.path}: tensor "${info.name}" of [${info.shape.join(', ')}] is no LoRA matrix, expected <tensor>.lora_a or .lora_b`,
      );
    }
    found.set(match[1], { ...found.get(match[1]), [match[2]]: info });
  }
  if (found.size === 0) throw new UserError(`${gguf.path} has no LoRA matrix`);
  return new Map(
    [...found].map(([tensor, { lora_a, lora_b }]) => {
      if (lora_a !== undefined && lora_b !== undefined) return [tensor, { lora_a, lora_b }];
      throw new UserError(`${gguf.path}: ${tensor} lacks its ${lora_a ? 'lora_b' : 'lora_a'}`);
    }),
  );
}

type GgufInfo = Parameters<typeof readGgufTensor>[1];

/** PEFT's own rule is llama.cpp's, alpha / rank, but for alpha 0. */
function configOf(
  ranks: ReadonlyMap<string, number>,
  alpha: number,
  layers?: Iterable<string>,
): PeftLoraConfig {
  const r = mostCommon(ranks.values());
  const rankPattern = patternsOf(ranks, r);
  return peftLoraConfig({
    r,
    rank_pattern: rankPattern,
    lora_alpha: alpha === 0 ? r : shortestF32(alpha),
    alpha_pattern: alpha === 0 ? rankPattern : {},
    ...targetsOf([...ranks.keys()], layers),
    task_type: 'CAUSAL_LM',
  });
}
