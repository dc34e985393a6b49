/** Where answers are measured: the model that comes along, its data, and adapters trained in seconds. */
import { join } from 'node:path';
import type { F32Tensor } from '../../base/tensor.js';
import type { WorkOptions } from '../../base/work.js';
import { NodeRuntime } from '../../graph/runtime/node.js';
import type { SessionOptions } from '../../graph/runtime/session.js';
import type { Adapter } from '../../methods/adapter.js';
import type { MethodConfig, MethodName } from '../../methods/index.js';
import type { BaseModel } from '../../models/base.js';
import { type Batch, batchesOf } from '../../train/data/batches.js';
import { readRows } from '../../train/data/rows.js';
import { causalLm } from '../../train/objectives/causalLm.js';
import { AdamW } from '../../train/optimizer.js';
import { LossStep, TrainStep } from '../../train/step.js';
import { loadExamples } from '../data.js';
import { loadModel } from '../loadModel.js';
import { demoData, embeddedModel } from '../locate.js';
import type { Model } from '../model.js';

export interface ExplainOptions extends WorkOptions {
  /** Threads of the engine. */
  threads?: number;
  /** Of every random start and order of rows. */
  seed?: number;
}

/** A prompt and what should follow it. */
export interface Example {
  prompt: string;
  completion: string;
}

export interface Task {
  train: readonly Example[];
  heldOut: readonly Example[];
}

export interface Training<M extends MethodName> {
  /** What is told while it trains. */
  what: string;
  method: M;
  config: MethodConfig<M>;
  steps: number;
  learningRate?: number;
  /** Without it, the demo's. */
  task?: Task;
  /** How the adapter starts, changed before the first step. */
  start?: (adapter: Adapter) => void;
}

export interface Trained {
  adapter: Adapter;
  /** Of each step. */
  losses: number[];
  /** Of the held-out rows afterwards. */
  heldOut: number;
  /** Of a step, the median. */
  seconds: number;
}

/** What the demo's adapter trains with, found for it. */
const LEARNING_RATE = 5e-3;
const BATCH = 4;
const HELD_OUT = 16;
const MAX_LENGTH = 96;

export class Bench {
  private readonly engine = new NodeRuntime();
  private count = 0;

  private constructor(
    readonly model: Model,
    /** The demo's weather reports. */
    readonly task: Task,
    private readonly options: ExplainOptions,
  ) {}

  static async open(options: ExplainOptions): Promise<Bench> {
    const [train, heldOut] = await Promise.all(
      ['train.jsonl', 'heldout.jsonl'].map((name) => readRows(join(demoData, name))),
    );
    const completions = (rows: typeof train) =>
      rows.flatMap((row): Example[] =>
        row.kind === 'completion' ? [{ prompt: row.prompt, completion: row.completion }] : [],
      );
    const model = await loadModel('demo', { threads: options.threads });
    return new Bench(
      model,
      { train: completions(train), heldOut: completions(heldOut).slice(0, HELD_OUT) },
      options,
    );
  }

  get base(): BaseModel {
    return this.model.base;
  }

  get runtime(): NodeRuntime {
    return this.engine;
  }

  get session(): SessionOptions {
    return { threads: this.options.threads };
  }

  get seed(): number {
    return this.options.seed ?? 0;
  }

  /** A new adapter on the model, the active one. */
  start<M extends MethodName>(method: M, config: MethodConfig<M>, seed = this.seed): Promise<Adapter> {
    this.count++;
    return this.model.addMethod(method, config, {
      seed,
      name: `adapter ${this.count}`,
      signal: this.options.signal,
    });
  }

  /** Trains a new adapter for a few steps. It stays the active one. */
  async train<M extends MethodName>(training: Training<M>): Promise<Trained> {
    const { what, method, config, steps, learningRate = LEARNING_RATE, task = this.task, start } = training;
    const { signal, onProgress } = this.options;
    const adapter = await this.start(method, config);
    start?.(adapter);
    const losses: number[] = [];
    const seconds: number[] = [];
    let before = performance.now();
    const events = this.model.train({
      data: task.train,
      batchSize: BATCH,
      maxSteps: steps,
      learningRate,
      warmupRatio: 0.05,
      maxLength: MAX_LENGTH,
      seed: this.seed,
      signal,
    });
    for await (const event of events) {
      if (event.kind !== 'step') continue;
      losses.push(event.loss);
      seconds.push((performance.now() - before) / 1000);
      before = performance.now();
      onProgress?.({ what, done: losses.length, total: steps, unit: 'steps' });
    }
    // The first one loads the graph.
    const sorted = seconds.slice(1).sort((a, b) => a - b);
    return {
      adapter,
      losses,
      heldOut: await this.heldOutLoss(task),
      seconds: sorted[sorted.length >> 1] ?? seconds[0],
    };
  }

  /** Mean loss of the held-out rows with what is active. */
  async heldOutLoss({ heldOut }: Pick<Task, 'heldOut'> = this.task): Promise<number> {
    const { signal } = this.options;
    return (await this.model.evaluate(heldOut, { maxLength: MAX_LENGTH, signal })).loss;
  }

  /** The same of the base alone. */
  async baseLoss(task: Task = this.task): Promise<number> {
    this.model.disableAdapters();
    const loss = await this.heldOutLoss(task);
    this.model.enableAdapters();
    return loss;
  }

  /** The base's loss on the rows of `probe`. */
  async baseLossAtStart(): Promise<number> {
    const batch = await this.firstBatch();
    const step = await LossStep.create(this.engine, this.base, undefined, this.session);
    let sum = 0;
    for (const micro of batch.micro) sum += (await step.run(micro)).lossSum;
    await step.close();
    return sum / batch.targets;
  }

  private async firstBatch(): Promise<Batch> {
    const tokenizer = { tokenizer: this.model.tokenizer, folder: embeddedModel, model: embeddedModel };
    const limits = { maxLength: MAX_LENGTH, lossOn: 'completion', addEos: true } as const;
    const rows = this.task.train.slice(0, BATCH);
    const { examples, close } = await loadExamples(rows, causalLm.reading, tokenizer, limits, this.options);
    const order = { batchSize: BATCH, seed: 0, epoch: 0, microBatchTokens: BATCH * MAX_LENGTH };
    const [batch] = batchesOf(examples, causalLm.batching, order);
    await close();
    return batch;
  }

  /** Loss and gradients of an adapter on the first rows, as often as asked, and single steps of the optimizer. */
  async probe(adapter: Adapter): Promise<Probe> {
    const batch = await this.firstBatch();
    const step = await TrainStep.create(this.engine, this.base, adapter, this.session);
    return new Probe(step, adapter, batch);
  }

  async close(): Promise<void> {
    await this.model.close();
    await this.engine.close();
  }
}

/** A batch and an adapter whose gradients are looked at. */
export class Probe {
  constructor(
    private readonly step: TrainStep,
    private readonly adapter: Adapter,
    private readonly batch: Batch,
  ) {}

  /** ONNX nodes of the training step. */
  get nodeCount(): number {
    return this.step.nodeCount;
  }

  /** Loss and gradients at the adapter's values. */
  async run(): Promise<{ loss: number; grads: Map<string, F32Tensor> }> {
    let loss = 0;
    const grads = new Map<string, F32Tensor>();
    for (const micro of this.batch.micro) {
      const part = await this.step.run(micro, 1 / this.batch.targets);
      loss += part.loss;
      for (const [name, grad] of part.grads) {
        const sum = grads.get(name);
        if (sum) for (let i = 0; i < sum.data.length; i++) sum.data[i] += grad.data[i];
        else grads.set(name, grad);
      }
    }
    return { loss, grads };
  }

  /** One first step of AdamW from the adapter's values, in place. */
  update(grads: ReadonlyMap<string, F32Tensor>, learningRate: number): void {
    new AdamW({ betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 }).step(
      this.adapter.values,
      grads,
      learningRate,
    );
  }

  close(): Promise<void> {
    return this.step.close();
  }
}
