/** What scripts/parity wrote, read for comparison: batches, recipes, and PyTorch + PEFT's results. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { readSafetensorsHeader, readTensorF32, tensorNamed } from '../../src/formats/safetensors.js';
import type { Runtime } from '../../src/graph/runtime/session.js';
import type { Adapter } from '../../src/methods/adapter.js';
import type { BaseModel } from '../../src/models/base.js';
import type { MicroBatch } from '../../src/train/data/batches.js';
import type { Example } from '../../src/train/data/encode.js';
import { parseTrainOptions, type TrainOptions } from '../../src/train/options.js';
import { LossStep } from '../../src/train/step.js';

const batchSchema = z.strictObject({
  /** [B, S], right-padded. */
  ids: z.array(z.array(z.int())),
  lengths: z.array(z.int()),
  /** Flat supervised positions, and the token to predict at each. */
  rows: z.array(z.int()),
  next_ids: z.array(z.int()),
});

const recipeSchema = z.strictObject({
  optimizer: z.literal('adamw'),
  betas: z.tuple([z.number(), z.number()]),
  eps: z.number(),
  weight_decay: z.number(),
  max_grad_norm: z.number(),
  lr_schedule: z.literal('cosine'),
  warmup_steps: z.int(),
  steps: z.int(),
  learning_rate: z.number(),
});

/** The part of expected.json that every golden has. */
export const runSchema = z.object({
  /** The model in fixtures/; absent: the one that the folder is named after. */
  base: z.string().optional(),
  loss: z.number(),
  recipe: recipeSchema,
  losses: z.array(z.number()),
  grad_norms: z.array(z.number()),
  learning_rates: z.array(z.number()),
});

export const greedySchema = z.object({ prompt: z.array(z.int()), tokens: z.array(z.int()) });

export class ReferenceBatch {
  private constructor(private readonly batch: z.output<typeof batchSchema>) {}

  static async read(path: string): Promise<ReferenceBatch> {
    return new ReferenceBatch(await readJson(path, batchSchema));
  }

  /** Flat positions that are not padding. */
  get realRows(): number[] {
    const { ids, lengths } = this.batch;
    return lengths.flatMap((n, b) => Array.from({ length: n }, (_, i) => b * ids[0].length + i));
  }

  get nextIds(): readonly number[] {
    return this.batch.next_ids;
  }

  /** The whole batch, padding included, with the reference's targets. */
  supervised(): MicroBatch {
    return this.micro(this.batch.rows, this.batch.next_ids);
  }

  /** Targets everywhere but in the padding, so that logits come out for every token; the target ids mean nothing. */
  everywhere(): MicroBatch {
    const rows = this.realRows;
    return this.micro(rows, Array(rows.length).fill(0));
  }

  /** The batch as the training loop takes it. */
  examples(): Example[] {
    const { ids, lengths, rows } = this.batch;
    const targets = new Set(rows.map((row) => row + 1));
    return lengths.map((n, b) => ({
      ids: Int32Array.from(ids[b].slice(0, n)),
      supervised: Uint8Array.from({ length: n }, (_, i) =>
        Number(i > 0 && targets.has(b * ids[b].length + i)),
      ),
      line: b + 1,
    }));
  }

  private micro(targetRows: readonly number[], targetIds: readonly number[]): MicroBatch {
    const { ids, lengths } = this.batch;
    return {
      rows: ids.length,
      length: ids[0].length,
      ids: Int32Array.from(ids.flat()),
      lengths: Int32Array.from(lengths),
      targetRows: Int32Array.from(targetRows),
      targetIds: Int32Array.from(targetIds),
    };
  }
}

/** Logits of a batch's tokens, padding left out, [tokens, vocab]. */
export async function logitsOf(
  runtime: Runtime,
  model: BaseModel,
  adapter: Adapter | undefined,
  batch: ReferenceBatch,
): Promise<Float32Array> {
  const step = await LossStep.create(runtime, model, adapter, { logits: true });
  const { logits } = await step.run(batch.everywhere());
  await step.close();
  return logits!.data;
}

/** Every float tensor of a safetensors file, on demand. */
export async function openTensors(
  path: string,
): Promise<{ names: string[]; read(name: string): Promise<Float32Array> }> {
  const { tensors } = await readSafetensorsHeader(path);
  return {
    names: [...tensors.keys()],
    read: (name) => readTensorF32(tensorNamed(tensors, name, path)),
  };
}

const fetched = (file: string) => join(process.env.LOWRANK_MODELS ?? golden('../../.cache/models'), file);
/** SmolLM2-135M-Instruct, Gemma 3 270M and all-MiniLM-L6-v2 as scripts/fetch_models.py lays them down. */
export const smollm2Gguf = fetched('SmolLM2-135M-Instruct.Q4_1.gguf');
export const gemma3Gguf = fetched('gemma-3-270m-q4_k_m.gguf');
export const minilm = fetched('all-MiniLM-L6-v2');

/** The name that PEFT's files have for a trainable tensor. */
export function peftKey(trainable: string): string {
  return `base_model.model.${trainable}.weight`;
}

/** The training loop's options for the reference's run: one batch of `rows` rows, `steps` times. */
export function trainOptions(recipe: z.output<typeof recipeSchema>, rows: number): TrainOptions {
  return parseTrainOptions('recipe', {
    batchSize: rows,
    maxSteps: recipe.steps,
    learningRate: recipe.learning_rate,
    schedule: recipe.lr_schedule,
    warmupSteps: recipe.warmup_steps,
    weightDecay: recipe.weight_decay,
    adamBeta1: recipe.betas[0],
    adamBeta2: recipe.betas[1],
    adamEpsilon: recipe.eps,
    maxGradNorm: recipe.max_grad_norm,
  });
}

/** Rows of a [rows, width] matrix, one after the other. */
export function takeRows(matrix: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const taken = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries())
    taken.set(matrix.subarray(row * width, (row + 1) * width), i * width);
  return taken;
}

/** |value − reference| / |reference| by the Euclidean norm; NaN where a value is. */
export function relativeError(value: ArrayLike<number>, reference: ArrayLike<number>): number {
  if (value.length !== reference.length) throw new Error(`${value.length} values for ${reference.length}`);
  let difference = 0;
  let size = 0;
  for (let i = 0; i < reference.length; i++) {
    difference += (value[i] - reference[i]) ** 2;
    size += reference[i] ** 2;
  }
  return Math.sqrt(difference / size);
}

/** Largest |value − reference| / |reference|, element by element. */
export function worstRelativeError(value: readonly number[], reference: readonly number[]): number {
  if (value.length !== reference.length) throw new Error(`${value.length} values for ${reference.length}`);
  return reference.reduce((worst, r, i) => Math.max(worst, Math.abs(value[i] - r) / Math.abs(r)), 0);
}

/** A path inside test/golden. */
export function golden(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}
