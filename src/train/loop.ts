import { UserError } from '../base/errors.js';
import { countNonFinite } from '../base/finite.js';
import type { F32Tensor } from '../base/tensor.js';
import type { WorkOptions } from '../base/work.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import { type Adapter, copyOf, emptyState } from '../methods/adapter.js';
import { trainableCount } from '../methods/counts.js';
import { brokenTensor } from '../methods/nonFinite.js';
import type { BaseModel } from '../models/base.js';
import { filledByRows, stepsOf, stepsPerEpoch } from './byRows.js';
import {
  listCheckpoints,
  loadCheckpoint,
  newestCheckpoint,
  pruneCheckpoints,
  type RunState,
  type RunTensors,
  saveCheckpoint,
} from './checkpoint.js';
import { type Batch, type Batching, batchesOf } from './data/batches.js';
import type { ExampleSource } from './data/source.js';
import { checkPatience, outOfPatience, staleAfter } from './earlyStopping.js';
import { Evaluator } from './evaluate.js';
import type { Measure, Metrics, Objective } from './objective.js';
import { AdamW, accumulate, clipFactor, globalNorm } from './optimizer.js';
import type { TrainOptions } from './options.js';
import { PenaltyStep } from './penalty.js';
import { prepared } from './preparation.js';
import { scheduleFactor } from './schedule.js';
import { TrainStep } from './step.js';

/** What a training loop tells as it goes. */
export type TrainEvent =
  | {
      kind: 'start';
      step: number;
      steps: number;
      epochs: number;
      trainable: number;
      resumed: boolean;
      /** Checkpoints newer than the one that it goes on from, each with what is wrong with it. */
      damaged?: string[];
      /** Peak, as given or by the number of rows. */
      learningRate: number;
    }
  | ({
      kind: 'step';
      step: number;
      steps: number;
      epoch: number;
      /** Mean loss over the targets of this step's batch. */
      loss: number;
      /** What the method adds to the loss that is minimized, where it adds something. */
      penalty?: number;
      learningRate: number;
      /** Norm of the gradient before clipping, the penalty's included. */
      gradNorm: number;
      /** Tokens without padding, since the start of the run. */
      tokens: number;
      /** Over this step. */
      tokensPerSecond: number;
      /** Seconds left at the pace so far. */
      secondsLeft: number;
    } & Metrics)
  | ({ kind: 'eval'; step: number; loss: number; tokens: number; best: boolean } & Metrics)
  | { kind: 'checkpoint'; step: number; folder: string }
  | { kind: 'stopped'; step: number; steps: number; folder: string }
  | {
      kind: 'end';
      step: number;
      seconds: number;
      tokens: number;
      bestStep: number | null;
      /** Whether it ended because the held-out loss got no better. */
      early: boolean;
    };

export interface TrainLoopInput<E> {
  runtime: Runtime;
  model: BaseModel;
  adapter: Adapter;
  /** What the examples are for. */
  objective: Objective<E>;
  examples: ExampleSource<E>;
  evalExamples?: ExampleSource<E>;
  options: TrainOptions;
  /** Folder for checkpoints; without one, none are written. */
  run?: string;
  /** Go on from the newest checkpoint of `run`. */
  resume?: boolean;
  /** Learning rate of an update, counted from 0, instead of the options' schedule. */
  learningRateAt?: (step: number) => number;
  /** Stops after the step under way, with a checkpoint. */
  signal?: AbortSignal;
  session?: SessionOptions;
  /** Identifies what a checkpoint belongs to, as JSON. */
  fingerprint?: string;
  /** Told of what is computed before the first step. */
  onProgress?: WorkOptions['onProgress'];
}

/** A loss or gradient that is not finite. */
export class DivergedError extends UserError {}

/**
 * Trains an adapter in place: for each batch, forward and backward by micro-batches, clip, AdamW. With evaluation
 * data, it is evaluated at the start too, and the adapter ends with the values of its best evaluation.
 */
export async function* trainLoop<E>(job: TrainLoopInput<E>): AsyncGenerator<TrainEvent, void, void> {
  const { runtime, model, adapter, objective, run, signal } = job;
  const options = filledByRows(job.options, job.examples.length, adapter.method, objective);
  const batchSize = options.batchSize * options.gradientAccumulationSteps;
  const perEpoch = stepsPerEpoch(job.examples.length, options);
  const steps = stepsOf(job.examples.length, options);
  const warmup = options.warmupSteps ?? Math.ceil(options.warmupRatio * steps);
  const scheduled = (step: number) =>
    options.learningRate * scheduleFactor(options.schedule, step, warmup, steps);
  const learningRateAt = job.learningRateAt ?? scheduled;
  const fingerprint = job.fingerprint ?? '{}';
  adapter.method.onStart?.(adapter.config, { steps });
  adapter.state = emptyState();
  if (objective.batching.whole && options.batchSize < 2) {
    throw new UserError(
      `an ${objective.name} learns from the other rows of its batch: give a batchSize of 2 or more, not ${options.batchSize}`,
    );
  }
  checkPatience(options, (job.evalExamples?.length ?? 0) > 0);
  if (options.packing && !objective.batching.startsOf) {
    throw new UserError(`packing is not for objective ${objective.name}, whose rows stay as they are`);
  }
  const { method, config } = adapter;
  const byName = new Map(adapter.trainables.map((trainable) => [trainable.name, trainable]));
  const optimizer = new AdamW({
    betas: [options.adamBeta1, options.adamBeta2],
    eps: options.adamEpsilon,
    weightDecay: options.weightDecay,
    learningRateFactor: (name) =>
      method.learningRateFactor?.(config, byName.get(name)!, options.learningRate) ?? 1,
  });

  const tensors: RunTensors = { adapter, optimizer, best: new Map() };
  let state: RunState = { step: 0, tokens: 0, best: null, stale: 0, fingerprint };
  const newest = run && job.resume ? await newestCheckpoint(run) : undefined;
  // Training changes the values in place.
  const before = objective.preparation && !newest && !adapter.isNew ? copyOf(adapter) : undefined;
  if (newest) state = await loadCheckpoint(newest.folder, tensors, fingerprint);

  const trainStep = await TrainStep.create(runtime, model, adapter, {
    ...job.session,
    objective,
    packed: options.packing,
    gradientCheckpointing: options.gradientCheckpointing && (options.checkpointedLayers ?? true),
  });
  const penaltyStep = await PenaltyStep.create(runtime, adapter, job.session);
  const evaluator = job.evalExamples?.length
    ? await Evaluator.create(runtime, model, adapter, objective, job.session)
    : undefined;
  yield {
    kind: 'start',
    step: state.step,
    steps,
    epochs: steps / perEpoch,
    learningRate: options.learningRate,
    trainable: trainableCount(adapter.trainables),
    resumed: newest !== undefined,
    ...(newest?.damaged.length && { damaged: newest.damaged }),
  };

  const save = async (): Promise<string> => {
    const folder = await saveCheckpoint(run!, tensors, state);
    await pruneCheckpoints(run!, options.saveTotalLimit, state.step);
    return folder;
  };
  let { examples, evalExamples } = job;
  const evaluateNow = async (on: Evaluator<E>) => {
    const found = await on.run(evalExamples!, options.microBatchTokens);
    const { loss } = found;
    if (!Number.isFinite(loss)) {
      const base = state.step === 0 && (await brokenTensor(model, undefined));
      if (base) throw new UserError(`the held-out loss is NaN or infinite: ${base}`);
      throw await diverged(state.step, `the held-out loss is ${loss}`);
    }
    return { kind: 'eval' as const, step: state.step, ...found };
  };
  const diverged = async (step: number, what: string) => {
    const kept = newestOf(run, run ? await listCheckpoints(run) : []);
    return new DivergedError(`training stopped at step ${step}: ${what}; try a lower learning rate; ${kept}`);
  };
  let started = performance.now();
  const startStep = state.step;

  try {
    if (objective.preparation) {
      const sets = [examples, ...(evalExamples ? [evalExamples] : [])];
      const { microBatchTokens } = options;
      const { session = {}, onProgress } = job;
      const context = { runtime, model, adapter: before, session, microBatchTokens, onProgress, signal };
      const kept = run === undefined ? undefined : { folder: run, resumed: newest !== undefined };
      [examples, evalExamples] = await prepared(objective.preparation, sets, context, kept);
    }
    // Where it starts from, to compare with; the best is chosen among trained values.
    if (evaluator && state.step === 0) yield { ...(await evaluateNow(evaluator)), best: false };
    started = performance.now();
    for (const batch of batchesFrom(
      examples,
      objective.batching,
      options,
      batchSize,
      perEpoch,
      state.step,
      steps,
    )) {
      const stepStarted = performance.now();
      const measure = objective.measuresSteps ? objective.measure() : undefined;
      const { loss, grads } = await gradientOf(trainStep, batch, options.seed, state.step, measure);
      const penalized = await penaltyStep?.run();
      if (penalized) accumulate(grads, penalized.grads);
      const gradNorm = globalNorm(grads.values());
      if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
        // A base that is broken is no matter of learning rates.
        const base = state.step === startStep && (await brokenTensor(model, undefined));
        if (base) throw new UserError(`the loss is NaN or infinite: ${base}`);
        throw await diverged(
          state.step + 1,
          Number.isFinite(loss) ? 'the gradient is not finite' : `the loss is ${loss}`,
        );
      }
      const learningRate = learningRateAt(state.step);
      const clip = clipFactor(gradNorm, options.maxGradNorm);
      optimizer.step(adapter.values, grads, learningRate, clip);
      if ([...grads.keys()].some((name) => countNonFinite(adapter.values.get(name)!.data) > 0)) {
        throw await diverged(state.step + 1, `a step at learning rate ${learningRate} overflows float32`);
      }
      adapter.isNew = false;
      state = { ...state, step: state.step + 1, tokens: state.tokens + batch.tokens };
      adapter.method.onStep?.(adapter.config, {
        step: state.step,
        steps,
        values: adapter.values,
        grads,
        clip,
        state: adapter.state,
      });

      const now = performance.now();
      yield {
        kind: 'step',
        step: state.step,
        steps,
        epoch: state.step / perEpoch,
        loss,
        ...(penalized && { penalty: penalized.penalty }),
        ...measure?.result(loss),
        learningRate,
        gradNorm,
        tokens: state.tokens,
        tokensPerSecond: batch.tokens / ((now - stepStarted) / 1000),
        secondsLeft: ((now - started) / 1000 / (state.step - startStep)) * (steps - state.step),
      };

      const last = state.step === steps;
      if (evaluator && (last || (options.evalSteps > 0 && state.step % options.evalSteps === 0))) {
        const evaluated = await evaluateNow(evaluator);
        const best = state.best === null || evaluated.loss < state.best.loss;
        state = { ...state, stale: staleAfter(evaluated.loss, state, options) };
        if (best) {
          state = { ...state, best: { loss: evaluated.loss, step: state.step } };
          tensors.best = new Map([...adapter.values].map(([name, t]) => [name, t.data.slice()]));
        }
        yield { ...evaluated, best };
        if (outOfPatience(state.stale, options)) break;
      }
      if (signal?.aborted && !last && run) {
        yield { kind: 'stopped', step: state.step, steps, folder: await save() };
        return;
      }
      if (run && !last && options.saveSteps > 0 && state.step % options.saveSteps === 0) {
        yield { kind: 'checkpoint', step: state.step, folder: await save() };
      }
      // With a run folder, one that comes while a checkpoint is written stops behind the next step.
      if (signal?.aborted && !run) break;
    }
  } finally {
    await trainStep.close();
    await penaltyStep?.close();
    await evaluator?.close();
  }
  for (const [name, data] of tensors.best) adapter.values.get(name)!.data.set(data);
  yield {
    kind: 'end',
    step: state.step,
    seconds: (performance.now() - started) / 1000,
    tokens: state.tokens,
    bestStep: state.best?.step ?? null,
    early: state.step < steps && outOfPatience(state.stale, options),
  };
}

/** Batches of steps `from` … `to`, epoch after epoch; which ones depends on nothing but the seed. */
function* batchesFrom<E>(
  examples: ExampleSource<E>,
  batching: Batching<E>,
  options: TrainOptions,
  batchSize: number,
  perEpoch: number,
  from: number,
  to: number,
): Generator<Batch> {
  for (let step = from; step < to; ) {
    const epoch = Math.floor(step / perEpoch);
    const { seed, microBatchTokens, groupByLength, packing } = options;
    const startBatch = step % perEpoch;
    for (const batch of batchesOf(examples, batching, {
      batchSize,
      seed,
      epoch,
      microBatchTokens,
      startBatch,
      groupByLength,
      packing,
      wholeSize: options.batchSize,
    })) {
      yield batch;
      if (++step >= to) return;
    }
  }
}

/** Mean loss over a batch's targets, and its gradient, summed over micro-batches. */
export async function gradientOf(
  trainStep: TrainStep,
  batch: Batch,
  seed: number,
  step: number,
  measure?: Measure,
): Promise<{ loss: number; grads: Map<string, F32Tensor> }> {
  let loss = 0;
  let grads: Map<string, F32Tensor> | undefined;
  for (const [micro, part] of batch.micro.entries()) {
    const result = await trainStep.run(part, 1 / batch.weight, { seed, step, micro });
    loss += result.loss;
    if (result.logits) measure?.add?.(part, result.logits);
    if (grads) accumulate(grads, result.grads);
    else grads = result.grads;
  }
  return { loss, grads: grads ?? new Map() };
}

function newestOf(run: string | undefined, checkpoints: readonly string[]): string {
  const newest = checkpoints.at(-1);
  if (newest) return `the last good checkpoint is ${newest}`;
  return run ? 'no checkpoint was due before (saveSteps)' : 'no checkpoints were kept';
}
