import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { isAdapterGguf } from '../formats/gguf/lora.js';
import { readGguf } from '../formats/gguf/reader.js';
import { exists } from '../formats/io/node.js';
import { isMlxAdapter, mlxWeights } from '../formats/mlx.js';
import { sizesOf } from '../formats/peft.js';
import { kindName, kindOf, type PeftConfig, rankOf, scalingOf } from '../formats/peftConfig.js';
import { adapterSites, splitAdapterKey, splitModuleKey } from '../formats/peftNames.js';
import { sitesOf } from '../methods/adapter.js';
import { trainableCount } from '../methods/counts.js';
import { trainablesOf } from '../methods/head.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import { ownConfigOf } from '../methods/ownFolders.js';
import { openModel } from '../models/base.js';
import { describeGguf } from '../models/gguf/file.js';
import { describeAdapterGguf } from '../models/gguf/lora.js';
import type { ModelConfig, Site } from '../models/model.js';
import { type Outline, parameterCount } from '../models/shape.js';
import { baseNamedBy, readAdapterFolder } from './adapterFile.js';
import { checkArguments } from './arguments.js';
import { type LocateOptions, locate } from './locate.js';

/** Layers of one kind: the names that differ only in numbers. */
export interface ModuleGroup {
  /** model.layers.*.self_attn.q_proj */
  pattern: string;
  count: number;
  in: number;
  out: number;
  kind: Site['kind'];
  bias: boolean;
  /** Shares the matrix of this layer. */
  tiedTo?: string;
}

export interface ModelInspection {
  kind: 'model';
  path: string;
  format: 'safetensors' | 'gguf';
  config: ModelConfig;
  parameters: number;
  /** Bytes of the weights, and how many of them are of which element type. */
  bytes: number;
  dtypes: Record<string, number>;
  modules: ModuleGroup[];
  /** What a method with the given options would train. */
  trainable: { method: MethodName; options: unknown; parameters: number; share: number; sites: number };
}

export interface AdapterInspection {
  kind: 'adapter';
  path: string;
  base: string | null;
  /** The field's name of its method: "LoRA". */
  method: string;
  /** Its rank, scale and dropout in a few words. */
  details: string;
  config: PeftConfig;
  /** Those that trained. */
  parameters: number;
  bytes: number;
  /** A size is null where the adapter does not tell it (VeRA shares one matrix of the largest size). */
  modules: {
    pattern: string;
    count: number;
    in: number | null;
    out: number | null;
    r: number;
    scaling: number;
  }[];
}

export interface InspectOptions extends LocateOptions {
  method?: MethodName;
  /** Options of the method whose trainable share is told. */
  methodOptions?: object;
}

/** Describes a model folder, a GGUF file (without converting it), an adapter folder, or what a hub id names. */
export async function inspect(
  path: string,
  options: InspectOptions = {},
): Promise<ModelInspection | AdapterInspection> {
  checkArguments('inspect', [path, options]);
  const at = await locate(path, options);
  if (!(await stat(at)).isDirectory()) return inspectGguf(at, options);
  if (await exists(join(at, 'adapter_config.json'))) return inspectAdapter(at);
  if (await exists(join(at, 'config.json'))) return inspectModel(at, options);
  throw new UserError(`${path} is neither a model (config.json) nor an adapter (adapter_config.json)`);
}

async function inspectModel(path: string, options: InspectOptions): Promise<ModelInspection> {
  const model = await openModel(path, options);
  const infos = [...model.checkpoint.tensors.values()].map(({ dtype, length }) => ({ type: dtype, length }));
  return describeModel({ ...model, path, format: 'safetensors', infos }, options);
}

async function inspectGguf(
  path: string,
  options: InspectOptions,
): Promise<ModelInspection | AdapterInspection> {
  const gguf = await readGguf(path);
  if (isAdapterGguf(gguf)) {
    const { config, shapes } = describeAdapterGguf(gguf);
    return describeAdapter(path, config, shapes, (await stat(path)).size);
  }
  const { described } = await describeGguf(gguf);
  const infos = [...gguf.tensors.values()];
  return describeModel({ path, format: 'gguf', ...described, infos }, options);
}

interface Described extends Pick<ModelInspection, 'path' | 'format' | 'config'>, Outline {
  infos: readonly { type: string; length: number }[];
}

function describeModel(
  { path, format, config, infos, ...outline }: Described,
  { method: name = 'lora', methodOptions = {} }: InspectOptions,
): ModelInspection {
  const total = parameterCount(outline);
  const dtypes: Record<string, number> = {};
  for (const { type, length } of infos) dtypes[type] = (dtypes[type] ?? 0) + length;
  const method = methodNamed(name);
  const parsed = method.parse(`${name} configuration`, methodOptions);
  const trainables = trainablesOf(method, parsed, outline);
  const count = trainableCount(trainables);
  return {
    kind: 'model',
    path,
    format,
    config,
    parameters: total,
    bytes: infos.reduce((n, { length }) => n + length, 0),
    dtypes,
    modules: grouped(outline.sites, ({ in: inputs, out, kind, bias, tiedTo }) => ({
      in: inputs,
      out,
      kind,
      bias,
      tiedTo,
    })),
    trainable: {
      method: name,
      options: parsed,
      parameters: count,
      share: count / total,
      sites: sitesOf(trainables).size,
    },
  };
}

async function inspectAdapter(path: string): Promise<AdapterInspection> {
  const own = await ownConfigOf(path);
  if (own) {
    throw new UserError(
      `${path} is a ${own.peft_type} adapter, and inspect shows only those with matrices of a rank: generate and eval take it`,
    );
  }
  const { config, tensors } = await readAdapterFolder(path);
  const weights = (await isMlxAdapter(path))
    ? await mlxWeights(path)
    : join(path, 'adapter_model.safetensors');
  const { size } = await stat(weights);
  const shapes = new Map([...tensors].map(([key, { shape }]) => [key, shape]));
  return describeAdapter(path, config, shapes, size);
}

function describeAdapter(
  path: string,
  config: PeftConfig,
  shapes: ReadonlyMap<string, readonly number[]>,
  size: number,
): AdapterInspection {
  const sites = adapterSites(shapes).map((name) => ({ name }));
  return {
    kind: 'adapter',
    path,
    base: config.base_model_name_or_path,
    method: kindName(config),
    details: kindOf(config).describe(config),
    config,
    parameters: [...shapes].reduce((n, [key, shape]) => n + (trained(key) ? sizeOf(shape) : 0), 0),
    bytes: size,
    modules: grouped(sites, ({ name }) => ({
      ...sizesOf(config, name, shapes),
      r: rankOf(config, name),
      scaling: scalingOf(config, name),
    })),
  };
}

/** Not of what an adapter carries along: VeRA's shared matrices, the base's own matrix of an embedding. */
function trained(key: string): boolean {
  const own = splitModuleKey(key);
  return own ? own.part !== 'base_weight' : splitAdapterKey(key) !== undefined;
}

/** Named things by their pattern, those together whose `details` are equal. */
function grouped<T extends { name: string }, D extends object>(
  items: readonly T[],
  details: (item: T) => D,
): (D & { pattern: string; count: number })[] {
  const groups = new Map<string, D & { pattern: string; count: number }>();
  for (const item of items) {
    const pattern = item.name.replace(/\.\d+(?=\.|$)/g, '.*');
    const own = details(item);
    const key = `${pattern} ${JSON.stringify(own)}`;
    const group = groups.get(key);
    if (group) group.count++;
    else groups.set(key, { pattern, count: 1, ...own });
  }
  return [...groups.values()];
}

/** The base that an adapter names. Throws UserError where there is no such adapter, or it names none. */
export async function baseOfAdapter(path: string, options: LocateOptions = {}): Promise<string> {
  const base = await baseNamedBy(await locate(path, { kind: 'adapter', ...options }));
  if (base) return base;
  throw new UserError(`${path} names no base model; name it yourself, by --model on the command line`);
}
