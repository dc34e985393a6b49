import type { UserError } from '../base/errors.js';
import { type F32Tensor, type HostTensor, scalarOf } from '../base/tensor.js';
import { type CompiledGraph, compile } from '../graph/emit.js';
import { expandTo, input, mul, sum } from '../graph/ops/index.js';
import type { Feeds, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { gradients } from '../graph/vjp.js';
import { type AdaptedSites, type Adapter, adaptedSites } from '../methods/adapter.js';
import { invocationFeeds } from '../methods/invocation.js';
import { mergedSites } from '../methods/merged.js';
import { nonFiniteError } from '../methods/nonFinite.js';
import { behindPrefix, prefixLength } from '../methods/pastKeys.js';
import { virtualCount, virtualFeeds, withVirtualTokens } from '../methods/virtualTokens.js';
import type { BaseModel } from '../models/base.js';
import { SequenceFeeds } from '../models/feeds.js';
import { trainingStream } from '../models/stream.js';
import type { MicroBatch } from './data/batches.js';
import { type DropoutKey, DropoutMasks } from './dropout.js';
import type { Objective } from './objective.js';
import { objectiveOf } from './objectives/index.js';

/** Feeds common to both steps, and the loss of the objective. */
interface LossGraph {
  /** Σ of the losses in nats, times `scale`. */
  loss: Tensor;
  losses: Tensor;
  scale: Tensor;
  logits: Tensor;
  /** What enters each layer, and what leaves the last. */
  boundaries: readonly Tensor[];
  params: ReadonlyMap<string, Tensor>;
  /** Of the masks that the graph takes. */
  dropout: AdaptedSites['dropout'];
}

interface LossGraphOptions {
  training: boolean;
  objective?: Pick<Objective, 'loss'>;
  packed?: boolean;
  merged?: boolean;
}

/** Builds the forward pass and the loss. */
function lossGraph(
  model: BaseModel,
  adapter: Adapter | undefined,
  { training, objective = objectiveOf(model), packed, merged }: LossGraphOptions,
): LossGraph {
  const { sites, params, dropout }: AdaptedSites =
    merged && adapter
      ? { sites: mergedSites(model, adapter), params: new Map(), dropout: new Map() }
      : adaptedSites(model, adapter, training);
  const boundaries: Tensor[] = [];
  const { network } = model;
  const stream = behindPrefix(network.cache, adapter, trainingStream(network, packed), params);
  const hidden = network.forward(sites, stream, (x) => boundaries.push(x));
  const scale = input('scale', 'float32', []);
  const { losses, logits } = objective.loss({ network, sites, hidden });
  return { loss: mul(sum(losses, 0), scale), losses, scale, logits, boundaries, params, dropout };
}

export interface StepOptions extends SessionOptions {
  /** What the loss is. Default: that of the model's task, or next-token prediction. */
  objective?: Pick<Objective, 'loss' | 'measuresSteps'>;
  /** Takes micro-batches of packed rows, which name their `starts`, and no others. */
  packed?: boolean;
}

export interface TrainStepOptions extends StepOptions {
  /** Keeps of each layer, or this many of the first, only its input, and computes the rest again on the way back. */
  gradientCheckpointing?: boolean | number;
}

/** A compiled step, bound to the values of an adapter. */
abstract class Step {
  private readonly sequence: SequenceFeeds;

  protected constructor(
    private readonly session: Session,
    private readonly model: BaseModel,
    protected readonly adapter: Adapter | undefined,
    private readonly params: readonly string[],
    /** Names of all inputs of the graph. */
    private readonly inputs: ReadonlySet<string>,
  ) {
    this.sequence = new SequenceFeeds(model.network.stream, prefixLength(adapter));
  }

  protected async feedAndRun(given: MicroBatch, scale: number, extra: Feeds = {}): Promise<Feeds> {
    const virtual = virtualCount(this.adapter);
    const { micro, columns } = withVirtualTokens(given, virtual);
    const feeds: Feeds = {
      ...virtualFeeds(virtual, micro.rows, columns),
      ...this.sequence.feeds(micro),
      ...invocationFeeds(this.adapter, micro),
      rows: int32(micro.targetRows),
      targetIds: int32(micro.targetIds),
      scale: { dtype: 'float32', dims: [], data: Float32Array.of(scale) },
      ...given.feeds,
      ...extra,
    };
    for (const name of this.params) feeds[name] = this.adapter!.values.get(name)!;
    // A network may have tables that none of its layers reads.
    const asked = Object.fromEntries(Object.entries(feeds).filter(([name]) => this.inputs.has(name)));
    const lent = this.sequence.lendable.filter((name) => this.inputs.has(name));
    return this.session.run(asked, [...lent, ...this.params]);
  }

  /** What to throw where the loss is NaN or infinite. */
  nonFinite(): Promise<UserError> {
    return nonFiniteError('the loss', this.model, this.adapter);
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

export interface StepResult {
  /** Σ of the losses, times the scale. */
  loss: number;
  /** Gradient of that loss by trainable name. */
  grads: Map<string, F32Tensor>;
  /** Where the objective measures steps. */
  logits?: F32Tensor;
}

/** The loss and the gradients of what trains, as a graph that is not compiled yet. */
export function trainGraph(
  model: BaseModel,
  adapter: Adapter,
  { objective, packed, gradientCheckpointing }: TrainStepOptions,
): {
  outputs: Record<string, Tensor>;
  params: ReadonlyMap<string, Tensor>;
  dropout: AdaptedSites['dropout'];
} {
  const { loss, losses, logits, scale, boundaries, params, dropout } = lossGraph(model, adapter, {
    training: true,
    objective,
    packed,
  });
  const frozen = new Set(adapter.trainables.filter((t) => t.requiresGrad === false).map((t) => t.name));
  const trained = [...params].filter(([name]) => !frozen.has(name));
  const grads = gradients(
    losses,
    expandTo(scale, losses),
    trained.map(([, param]) => param),
    checkpointsOf(boundaries, gradientCheckpointing),
  );
  const outputs: Record<string, Tensor> = { loss, ...(objective?.measuresSteps && { logits }) };
  for (const [i, [name]] of trained.entries()) outputs[`grad.${name}`] = grads[i];
  return { outputs, params, dropout };
}

/** What evaluation computes, as a graph that is not compiled yet. */
export function evaluationGraph(
  model: BaseModel,
  adapter: Adapter,
  objective?: Pick<Objective, 'loss'>,
): Tensor[] {
  const { loss, losses } = lossGraph(model, adapter, { training: false, objective });
  return [loss, losses];
}

/** One graph for a training step: forward, loss, and the gradients of the trainable tensors only. */
export class TrainStep extends Step {
  private constructor(
    session: Session,
    model: BaseModel,
    adapter: Adapter,
    params: readonly string[],
    inputs: ReadonlySet<string>,
    private readonly dropout: DropoutMasks,
    /** ONNX nodes of the graph. */
    readonly nodeCount: number,
  ) {
    super(session, model, adapter, params, inputs);
  }

  static async create(
    runtime: Runtime,
    model: BaseModel,
    adapter: Adapter,
    { objective, packed, gradientCheckpointing, ...options }: TrainStepOptions = {},
  ): Promise<TrainStep> {
    const { outputs, params, dropout } = trainGraph(model, adapter, {
      objective,
      packed,
      gradientCheckpointing,
    });
    const graph = compile(outputs, options.device);
    const session = await runtime.load(graph, { ...options, weightsFolder: model.weightsFolder });
    return new TrainStep(
      session,
      model,
      adapter,
      [...params.keys()],
      namesOf(graph),
      new DropoutMasks(graph.inputs, dropout),
      graph.nodeCount,
    );
  }

  /**
   * Runs one micro-batch. `scale` is usually 1 / (weight of the whole batch); `key` names the
   * dropout masks, so that a step can be repeated.
   */
  async run(
    micro: MicroBatch,
    scale: number,
    key: DropoutKey = { seed: 0, step: 0, micro: 0 },
  ): Promise<StepResult> {
    const outputs = await this.feedAndRun(micro, scale, this.dropout.feeds(micro, key));
    const grads = new Map<string, F32Tensor>();
    for (const [name, value] of Object.entries(outputs)) {
      if (name.startsWith('grad.')) grads.set(name.slice('grad.'.length), value as F32Tensor);
    }
    return { loss: scalarOf(outputs.loss), grads, logits: outputs.logits as F32Tensor | undefined };
  }
}

export interface LossStepOptions extends StepOptions {
  /** Gives the logits out, too. */
  logits?: boolean;
  /** With the adapter in the model's own matrices. */
  merged?: boolean;
}

/** The same loss without gradients or dropout: evaluation, and logits for tests. */
export class LossStep extends Step {
  /** With `merged` the adapter is in the model's own matrices. Throws UserError where its method cannot merge. */
  static async create(
    runtime: Runtime,
    model: BaseModel,
    adapter: Adapter | undefined,
    { merged, logits, objective, packed, ...options }: LossStepOptions = {},
  ): Promise<LossStep> {
    const g = lossGraph(model, adapter, { training: false, objective, packed, merged });
    const outputs = { loss: g.loss, losses: g.losses, ...(logits && { logits: g.logits }) };
    const graph = compile(outputs, options.device);
    const session = await runtime.load(graph, { ...options, weightsFolder: model.weightsFolder });
    return new LossStep(session, model, adapter, [...g.params.keys()], namesOf(graph));
  }

  /** Losses [n] in nats; logits [n, …] where the step was made with them. */
  async run(micro: MicroBatch): Promise<{ lossSum: number; losses: F32Tensor; logits?: F32Tensor }> {
    const outputs = await this.feedAndRun(micro, 1);
    return {
      lossSum: scalarOf(outputs.loss),
      losses: outputs.losses as F32Tensor,
      logits: outputs.logits as F32Tensor | undefined,
    };
  }
}

/** The boundaries between which to compute again: of all layers, or of so many of the first. */
function checkpointsOf(boundaries: readonly Tensor[], layers: boolean | number = false): readonly Tensor[] {
  if (typeof layers === 'boolean') return layers ? boundaries : [];
  return boundaries.slice(0, layers + 1);
}

function namesOf({ inputs }: CompiledGraph): Set<string> {
  return new Set(inputs.map(({ name }) => name));
}

function int32(data: Int32Array): HostTensor {
  return { dtype: 'int32', dims: [data.length], data };
}
