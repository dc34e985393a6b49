/**
 * LoRA adapters of mlx-lm (mlx_lm/tuner/lora.py): adapters.safetensors with lora_a [in, r] and lora_b [r, out], and
 * adapter_config.json with their scale. A layer computes x·Wᵀ + scale·(x·lora_a)·lora_b: the scale is not divided by r.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { targetsOf } from './adapterNames.js';
import { exists, readJson } from './io/node.js';
import type { AdapterFiles, AdapterTensor } from './peft.js';
import { peftLoraConfig } from './peftConfig.js';
import { adapterKey, adapterSites } from './peftNames.js';
import { readFinite, readSafetensorsHeader, type TensorInfo } from './safetensors.js';

const CONFIG = 'adapter_config.json';
const MLX_WEIGHTS = 'adapters.safetensors';

/** It also holds whatever the training was told. */
const schema = z.looseObject({
  fine_tune_type: z
    .literal('lora', {
      error: ({ input }) => `${JSON.stringify(input)} is not implemented, expected "lora"`,
    })
    .default('lora'),
  model: z.string().nullish(),
  lora_parameters: z.looseObject({
    rank: z.int().positive(),
    scale: z.number(),
    dropout: z.number().min(0).lt(1).default(0),
    alpha: z.number().optional(),
  }),
});

/** What mlx-lm saves while it trains. */
const CHECKPOINT = /^\d{7}_adapters\.safetensors$/;

/** Whether the folder holds what mlx-lm writes for an adapter, a checkpoint alone included. */
export async function isMlxAdapter(folder: string): Promise<boolean> {
  if (!(await exists(join(folder, CONFIG)))) return false;
  return (await exists(join(folder, MLX_WEIGHTS))) || (await checkpointsIn(folder)).length > 0;
}

/** The file with the matrices. Throws UserError where there are only checkpoints. */
export async function mlxWeights(folder: string): Promise<string> {
  const path = join(folder, MLX_WEIGHTS);
  if (await exists(path)) return path;
  const checkpoints = await checkpointsIn(folder);
  const last = checkpoints.at(-1);
  throw new UserError(
    `${folder} has no ${MLX_WEIGHTS}, only ${checkpoints.length === 1 ? `the checkpoint ${last}` : `checkpoints, the last of them ${last}`} ` +
      `of a training by mlx-lm: copy the one that you want to ${MLX_WEIGHTS}`,
  );
}

async function checkpointsIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => CHECKPOINT.test(name)).sort();
}

/**
 * Reads an mlx-lm adapter folder as PEFT has it; F16 and BF16 matrices come as float32. `model` lists the base's
 * layers where they are known.
 * @throws UserError when a file is missing or broken, or holds anything but plain LoRA on linear layers.
 */
export async function readMlxAdapter(folder: string, model?: Iterable<string>): Promise<AdapterFiles> {
  const configPath = join(folder, CONFIG);
  const path = await mlxWeights(folder);
  const { lora_parameters: lora, model: baseName } = await readJson(configPath, schema);
  const { rank, scale, dropout, alpha } = lora;
  // Until 0.19 the factor was scale·alpha / rank; later versions ignore alpha. Nothing in the file tells which wrote it.
  if (alpha !== undefined && alpha !== rank) {
    throw new UserError(
      `${configPath}: key "lora_parameters.alpha": mlx-lm's versions disagree on what it means; remove it, ` +
        'and set scale to the factor that the layer multiplies with',
    );
  }
  const tensors = new Map<string, AdapterTensor>();
  for (const [site, pair] of await matricesOf(path)) {
    const inputs = pair.lora_a.shape[0];
    const outputs = pair.lora_b.shape[1];
    for (const [info, shape] of [
      [pair.lora_a, [inputs, rank]],
      [pair.lora_b, [rank, outputs]],
    ] as const) {
      if (String(info.shape) !== String(shape) || sizeOf(shape) === 0) {
        throw new UserError(
          `${path}: tensor "${info.name}" has shape [${info.shape.join(', ')}], expected ` +
            (info === pair.lora_a ? `[in, ${rank}]` : `[${rank}, out]`),
        );
      }
    }
    tensors.set(adapterKey(site, 'lora_A'), await transposed(pair.lora_a));
    tensors.set(adapterKey(site, 'lora_B'), await transposed(pair.lora_b));
  }
  const config = peftLoraConfig({
    r: rank,
    lora_alpha: scale * rank,
    lora_dropout: dropout,
    ...targetsOf(adapterSites(tensors), model),
    base_model_name_or_path: baseName ?? null,
    task_type: 'CAUSAL_LM',
  });
  return { config, tensors };
}

async function matricesOf(path: string) {
  const found = new Map<string, { lora_a?: TensorInfo; lora_b?: TensorInfo }>();
  for (const info of (await readSafetensorsHeader(path)).tensors.values()) {
    const match = /^(.+)\.(lora_a|lora_b)$/.exec(info.name);
    if (match === null) {
      throw new UserError(
        `${path}: tensor "${info.name}" is no LoRA matrix, expected <module>.lora_a or .lora_b`,
      );
    }
    if (match[1].endsWith('embed_tokens')) {
      throw new UserError(`${path}: tensor "${info.name}" adapts an embedding, which is not implemented`);
    }
    found.set(match[1], { ...found.get(match[1]), [match[2]]: info });
  }
  if (found.size === 0) throw new UserError(`${path} has no LoRA matrix`);
  return [...found].map(([site, { lora_a, lora_b }]) => {
    if (lora_a !== undefined && lora_b !== undefined) return [site, { lora_a, lora_b }] as const;
    throw new UserError(`${path}: ${site} lacks its ${lora_a ? 'lora_b' : 'lora_a'}`);
  });
}

async function transposed(info: TensorInfo): Promise<AdapterTensor> {
  const [rows, columns] = info.shape;
  const values = await readFinite(info);
  const data = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      data[column * rows + row] = values[row * columns + column];
  }
  return { shape: [columns, rows], data };
}
