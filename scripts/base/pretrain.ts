import { appendFile, copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type F32Tensor, f32 } from '../../src/base/tensor.js';
import { writeCheckpoint } from '../../src/formats/checkpoint.js';
import { encodeF32 } from '../../src/formats/float16.js';
import { writeFileAtomic } from '../../src/formats/io/write.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { full } from '../../src/methods/full.js';
import type { Method } from '../../src/methods/method.js';
import { openModel } from '../../src/models/base.js';
import { AdamW, clipFactor, globalNorm } from '../../src/train/optimizer.js';
import { scheduleFactor } from '../../src/train/schedule.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { arraysOf, readPart, readProgress, saveCheckpoint } from './checkpoint.js';
import { heldOutLoss } from './evaluate.js';
import { BASE_FOLDER, CARD_TOKENS, INIT_FOLDER, RUN_FOLDER, TRAIN_TOKENS, VALID_TOKENS } from './paths.js';
import { MAX_POSITIONS } from './shape.js';
import { MIX, readTokens, trainingBatch } from './stream.js';

/** Tokens of an update: 2,048. Few, because the budget allows few updates. */
const UPDATE_TOKENS = (MIX.text + MIX.repeated + MIX.cards) * MAX_POSITIONS;
const STEPS = 1_800;
const WARMUP = 100;
const PEAK_RATE = 3e-3;
const WEIGHT_DECAY = 0.1;
const BETAS = [0.9, 0.95] as const;
const MAX_NORM = 1;
const SEED = 1;
const SAVE_EVERY = 200;
const REPORT_EVERY = 20;
/** Tokens of the held-out stream in an evaluation on the way. */
const QUICK_TOKENS = 40 * MAX_POSITIONS;

/** AdamW that decays matrices only: the gains of norms are left alone. */
class Optimizer {
  private readonly matrices = new AdamW({ betas: BETAS, eps: 1e-8, weightDecay: WEIGHT_DECAY });
  private readonly gains = new AdamW({ betas: BETAS, eps: 1e-8, weightDecay: 0 });

  step(values: ReadonlyMap<string, F32Tensor>, grads: ReadonlyMap<string, F32Tensor>, rate: number): void {
    const factor = clipFactor(globalNorm(grads.values()), MAX_NORM);
    const isGain = (tensor: F32Tensor) => tensor.dims.length === 1;
    this.matrices.step(
      values,
      filter(grads, (g) => !isGain(g)),
      rate,
      factor,
    );
    this.gains.step(values, filter(grads, isGain), rate, factor);
  }

  get state() {
    const { matrices, gains } = this;
    return {
      matricesFirst: matrices.first,
      matricesSecond: matrices.second,
      gainsFirst: gains.first,
      gainsSecond: gains.second,
    };
  }

  set steps(steps: number) {
    this.matrices.steps = steps;
    this.gains.steps = steps;
  }
}

function filter(grads: ReadonlyMap<string, F32Tensor>, take: (g: F32Tensor) => boolean) {
  return new Map([...grads].filter(([, g]) => take(g)));
}

/**
 * Pre-trains the base with this project's own engine: the training step of fine-tuning, every weight
 * selected. Goes on from the last checkpoint where there is one, and writes the weights that ship at the end.
 * `threads` of the engine: on a machine that does other work too, fewer than its cores are faster.
 */
export async function pretrain({ threads }: { threads?: number }): Promise<void> {
  const model = await openModel(INIT_FOLDER);
  const adapter = await createAdapter(full as Method<unknown>, {}, model);
  const optimizer = new Optimizer();
  const start = (await readProgress()) ?? { step: 0, seconds: 0 };
  if (start.step > 0) await restore(adapter, optimizer, start.step);

  const runtime = new NodeRuntime();
  const trainStep = await TrainStep.create(runtime, model, adapter, { threads });
  const lossStep = await LossStep.create(runtime, model, adapter, { threads });
  const streams = { text: await readTokens(TRAIN_TOKENS), cards: await readTokens(CARD_TOKENS) };
  const held = (await readTokens(VALID_TOKENS)).subarray(0, QUICK_TOKENS + 1);
  await mkdir(RUN_FOLDER, { recursive: true });

  let { step, seconds } = start;
  let since = { step, seconds, lossSum: 0 };
  while (step < STEPS) {
    const started = performance.now();
    const batch = trainingBatch(streams, { step, length: MAX_POSITIONS, seed: SEED });
    const { loss, grads } = await trainStep.run(batch, 1 / UPDATE_TOKENS);
    if (!Number.isFinite(loss)) throw new Error(`the loss is ${loss} at step ${step}`);
    optimizer.step(adapter.values, grads, PEAK_RATE * scheduleFactor('linear', step + 1, WARMUP, STEPS));
    step++;
    seconds += (performance.now() - started) / 1000;
    since.lossSum += loss;
    if (step % REPORT_EVERY === 0) {
      const steps = step - since.step;
      await log({
        step,
        loss: since.lossSum / steps,
        tokensPerSecond: Math.round((steps * UPDATE_TOKENS) / (seconds - since.seconds)),
      });
      since = { step, seconds, lossSum: 0 };
    }
    if (step % SAVE_EVERY === 0 || step === STEPS) {
      await log({ step, seconds: Math.round(seconds), heldOutLoss: await heldOutLoss(lossStep, held) });
      await saveCheckpoint({ step, seconds }, { weights: arraysOf(adapter.values), ...optimizer.state });
    }
  }
  await runtime.close();
  await writeBase(adapter);
}

async function restore(adapter: Adapter, optimizer: Optimizer, step: number): Promise<void> {
  const weights = new Map<string, Float32Array>();
  await readPart('weights', weights);
  for (const { name, shape } of adapter.trainables) adapter.values.set(name, f32(weights.get(name)!, shape));
  for (const [part, moments] of Object.entries(optimizer.state)) await readPart(part, moments);
  optimizer.steps = step;
  console.log(`going on from step ${step}`);
}

async function log(line: Record<string, number>): Promise<void> {
  const text = JSON.stringify(line, (_, value) =>
    typeof value === 'number' ? Number(value.toFixed(4)) : value,
  );
  console.log(text);
  await appendFile(join(RUN_FOLDER, 'metrics.jsonl'), `${text}\n`);
}

/** Writes the trained weights in half precision, with the config and the tokenizer, to assets/base. */
async function writeBase(adapter: Adapter): Promise<void> {
  const entries = [...adapter.values].map(([name, { data, dims }]) => ({
    name,
    dtype: 'F16' as const,
    shape: dims,
    data: () => encodeF32(data, 'float16'),
  }));
  const config = JSON.parse(await readFile(join(INIT_FOLDER, 'config.json'), 'utf8'));
  await writeCheckpoint(BASE_FOLDER, entries);
  await writeFileAtomic(
    join(BASE_FOLDER, 'config.json'),
    `${JSON.stringify({ ...config, dtype: 'float16' }, null, 2)}\n`,
  );
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    await copyFile(join(INIT_FOLDER, name), join(BASE_FOLDER, name));
  }
}
