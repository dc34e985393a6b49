/** What the golden suites share: an engine, a folder of fixtures opened, and the comparisons with what PEFT computed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, expect } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { readJson } from '../../src/formats/io/node.js';
import { readAdapter, writeAdapter } from '../../src/formats/peft.js';
import { peftFileName } from '../../src/formats/peftNames.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import type { Runtime } from '../../src/graph/runtime/session.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { type TrainEvent, trainLoop } from '../../src/train/loop.js';
import { causalLm } from '../../src/train/objectives/causalLm.js';
import { TrainStep } from '../../src/train/step.js';
import {
  golden,
  logitsOf,
  openTensors,
  ReferenceBatch,
  relativeError,
  type runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

/** Limits of docs/parity.md. */
export const LIMITS = { logits: 1e-5, loss: 1e-5, gradient: 1e-4, losses: 1e-3, norms: 1e-2, trained: 2e-3 };

export type StepEvent = Extract<TrainEvent, { kind: 'step' }>;
type Run = Pick<z.output<typeof runSchema>, 'recipe' | 'losses' | 'grad_norms'>;

/** An engine and an empty folder for the tests of one file; both are gone after them. */
export function openSuite(name: string): { runtime: Runtime; scratch: string } {
  const runtime = new NodeRuntime();
  const scratch = mkdtempSync(join(tmpdir(), `lowrank-golden-${name}-`));
  afterAll(async () => {
    await runtime.close();
    rmSync(scratch, { recursive: true });
  });
  return { runtime, scratch };
}

/** One folder that a script of scripts/parity wrote: a tiny model, a batch, maybe PEFT's adapter, and what came out. */
export class Fixture<E> {
  private constructor(
    private readonly runtime: Runtime,
    readonly folder: string,
    readonly expected: E,
    readonly model: BaseModel,
    readonly batch: ReferenceBatch,
    readonly tensors: Awaited<ReturnType<typeof openTensors>>,
  ) {}

  /** `folder` is one inside test/golden, named after its model in fixtures/ where expected.json names no base. */
  static async open<E extends { base?: string }>(
    runtime: Runtime,
    folder: string,
    schema: z.ZodType<E>,
  ): Promise<Fixture<E>> {
    const at = golden(folder);
    const expected = await readJson(join(at, 'expected.json'), schema);
    const model = golden(`fixtures/${expected.base ?? basename(folder)}`);
    return new Fixture(
      runtime,
      at,
      expected,
      await openModel(model),
      await ReferenceBatch.read(join(model, 'batch.json')),
      await openTensors(join(at, 'expected.safetensors')),
    );
  }

  /** PEFT's adapter. */
  get adapterFolder(): string {
    return join(this.folder, 'adapter');
  }

  load(folder = this.adapterFolder): Promise<Adapter> {
    return readAdapterFor(folder, this.model);
  }

  /** Relative error of the logits at every token that is not padding. */
  async logitsError(reference: string, adapter?: Adapter, model = this.model): Promise<number> {
    const logits = await logitsOf(this.runtime, model, adapter, this.batch);
    const wanted = takeRows(
      await this.tensors.read(reference),
      adapter?.vocabSize ?? model.config.vocabSize,
      this.batch.realRows,
    );
    return relativeError(logits, wanted);
  }

  /** The same of a model with the adapter merged, written to `folder` and read back. */
  async mergedError(reference: string, adapter: Adapter, folder: string): Promise<number> {
    await writeMergedModel(folder, this.runtime, this.model, adapter, { dtype: 'float32' });
    return this.logitsError(reference, undefined, await openModel(folder));
  }

  /**
   * The loss and the gradient of all that trains. `fileName` is a trainable's name in `grad.*`; `like` turns the
   * reference's values before they are compared, where signs are free.
   */
  async expectGradients(
    adapter: Adapter,
    loss: number,
    {
      fileName = (name) => peftFileName(name, new Map(adapter.trainables.map((t) => [t.name, t]))),
      like = async (_, theirs) => theirs,
      limit = LIMITS.gradient,
    }: {
      fileName?: (trainable: string) => string;
      like?: (trainable: string, theirs: Float32Array) => Promise<Float32Array>;
      limit?: number;
    } = {},
  ): Promise<void> {
    const step = await TrainStep.create(this.runtime, this.model, adapter);
    const micro = this.batch.supervised();
    const { loss: found, grads } = await step.run(micro, 1 / micro.targetRows.length);
    await step.close();
    expect(Math.abs(found - loss) / loss).toBeLessThan(LIMITS.loss);
    const reference = this.tensors.names.filter((name) => name.startsWith('grad.'));
    expect([...grads.keys()].map((name) => `grad.${fileName(name)}`).sort()).toEqual(reference.sort());
    for (const [trainable, { data }] of grads) {
      const theirs = await like(trainable, await this.tensors.read(`grad.${fileName(trainable)}`));
      expect(relativeError(data, theirs), trainable).toBeLessThan(limit);
    }
  }

  /** Trains `adapter` in place by the reference's recipe, and compares losses and gradient norms of every step. */
  async expectRun(
    adapter: Adapter,
    { recipe, losses, grad_norms }: Run,
    each: (event: StepEvent) => void = () => {},
  ): Promise<StepEvent[]> {
    const examples = this.batch.examples();
    const options = trainOptions(recipe, examples.length);
    const steps: StepEvent[] = [];
    const { runtime, model } = this;
    const job = { runtime, model, adapter, objective: causalLm, examples, options };
    for await (const event of trainLoop(job)) {
      if (event.kind !== 'step') continue;
      steps.push(event);
      each(event);
    }
    expect(steps).toHaveLength(recipe.steps);
    expect(worst(steps, 'loss', losses)).toBeLessThan(LIMITS.losses);
    expect(worst(steps, 'gradNorm', grad_norms)).toBeLessThan(LIMITS.norms);
    return steps;
  }

  /** PEFT's adapter, read and written to `folder`, is PEFT's file again: the tensors byte for byte. */
  async expectSameFiles(folder: string): Promise<void> {
    const { config, tensors } = await readAdapter(this.adapterFolder);
    await mkdir(folder);
    await writeAdapter(folder, config, tensors);
    const [mine, theirs] = await Promise.all(
      [folder, this.adapterFolder].map((at) => readFile(join(at, 'adapter_model.safetensors'))),
    );
    expect(mine.equals(theirs)).toBe(true);
    expect(await configOf(folder)).toEqual(await configOf(this.adapterFolder));
  }

  /** The adapter as lowrank saves it in `folder`, loaded again. */
  async saved(adapter: Adapter, folder: string, base = 'base'): Promise<Adapter> {
    await mkdir(folder);
    await writeAdapterFolder(folder, adapter, base);
    return this.load(folder);
  }
}

/** Largest relative difference of one figure over the steps. */
export function worst(
  steps: readonly StepEvent[],
  figure: 'loss' | 'gradNorm' | 'learningRate' | 'penalty',
  reference: readonly number[],
): number {
  return worstRelativeError(
    steps.map((step) => step[figure]!),
    reference,
  );
}

/** adapter_config.json as it stands. */
export function configOf(folder: string): Promise<Record<string, unknown>> {
  return readJson(join(folder, 'adapter_config.json'), z.looseObject({}));
}

/** Turns values of A (r rows) or B (r columns) so that each of their r directions has the sign that `ours` has beside `theirs`. */
export function signed(
  [, columns]: readonly number[],
  byRow: boolean,
  ours: Float32Array,
  theirs: Float32Array,
): { signs: number[]; turn: (values: Float32Array) => Float32Array } {
  const directionOf = (i: number) => (byRow ? Math.floor(i / columns) : i % columns);
  const dots: number[] = [];
  for (const [i, x] of ours.entries()) dots[directionOf(i)] = (dots[directionOf(i)] ?? 0) + x * theirs[i];
  const signs = dots.map(Math.sign);
  return { signs, turn: (values) => values.map((x, i) => x * signs[directionOf(i)]) };
}
