/** Where the inputs of a model's layers lie: their mean and scatter over tokens, by a forward pass alone. */
import { UserError } from '../base/errors.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { type CompiledGraph, compile } from '../graph/emit.js';
import { gather, input, matmul, mul, sub, sum } from '../graph/ops/index.js';
import type { Feeds, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { adaptedSites } from '../methods/adapter.js';
import type { BaseModel } from '../models/base.js';
import { SequenceFeeds } from '../models/feeds.js';
import type { Site, Sites } from '../models/model.js';
import { trainingStream } from '../models/stream.js';
import type { MicroBatch } from './data/batches.js';

/** Of the vectors x that enter some sites, over the tokens seen. */
export interface Moments {
  tokens: number;
  /** [in] */
  mean: Float64Array;
  /** Σ (x − mean)(x − mean)ᵀ, [in, in]; it may be lent. */
  readonly scatter: F32Tensor;
}

/** Sites by their input, in the model's order: queries, keys and values of a layer have the same. Throws UserError for experts. */
export function sitesByInput(model: BaseModel, sites: readonly Site[]): (readonly Site[])[] {
  return [...recorded(model, sites).values()];
}

/** The tensor that enters each of `sites`, as one graph. Throws UserError where that is in an expert. */
function recorded(model: BaseModel, sites: readonly Site[]): Map<Tensor, Site[]> {
  const inputs = new Map<Tensor, Site[]>();
  const wanted = new Map(sites.map((site) => [site.name, site]));
  const note = (name: string, x: Tensor) => {
    const site = wanted.get(name);
    if (site?.expert !== undefined) {
      throw new UserError(
        `${name} is in an expert, which does not see all tokens, so its inputs are not looked at; name other targets`,
      );
    }
    if (site) inputs.set(x, [...(inputs.get(x) ?? []), site]);
    // What else goes through it are no tokens (DeBERTa's distances).
    wanted.delete(name);
  };
  const { sites: base } = adaptedSites(model, undefined, false);
  const recorder: Sites = {
    linear(name, x, shape) {
      note(name, x);
      return base.linear(name, x, shape);
    },
    tiedLinear(name, tiedTo, x, shape) {
      note(name, x);
      return base.tiedLinear(name, tiedTo, x, shape);
    },
    embedding: (name, ids, shape) => base.embedding(name, ids, shape),
    param: (name, shape) => base.param(name, shape),
  };
  const { network } = model;
  const hidden = network.forward(recorder, trainingStream(network));
  network.lmHead?.(recorder, hidden);
  return inputs;
}

/** The moments of the inputs of some sites, over the targets of micro-batches. */
export class InputMoments {
  /** In the order of sitesByInput. */
  readonly inputs: readonly Moments[];
  private readonly sequence: SequenceFeeds;

  private constructor(
    private readonly graph: CompiledGraph,
    private readonly session: Session,
    model: BaseModel,
    /** Of each input: a site that it enters. */
    private readonly entered: readonly Site[],
  ) {
    this.sequence = new SequenceFeeds(model.network.stream);
    this.inputs = entered.map(({ in: size }) => ({
      tokens: 0,
      mean: new Float64Array(size),
      scatter: f32(new Float32Array(size * size), [size, size]),
    }));
  }

  /** `sites` are linear. */
  static async create(
    runtime: Runtime,
    model: BaseModel,
    sites: readonly Site[],
    options: SessionOptions = {},
  ): Promise<InputMoments> {
    const rows = input('rows', 'int32', ['targets']);
    const share = input('share', 'float32', []);
    const outputs: Record<string, Tensor> = {};
    const inputs = recorded(model, sites);
    for (const [i, x] of [...inputs.keys()].entries()) {
      const taken = gather(x, rows);
      const mean = mul(sum(taken, 0), share);
      const centred = sub(taken, mean);
      outputs[`mean.${i}`] = mean;
      outputs[`scatter.${i}`] = matmul(centred, centred, { transA: true });
    }
    const graph = compile(outputs, options.device);
    const session = await runtime.load(graph, { ...options, weightsFolder: model.weightsFolder });
    return new InputMoments(
      graph,
      session,
      model,
      [...inputs.values()].map(([site]) => site),
    );
  }

  /** Adds the tokens that `targetRows` names. Throws UserError where the model gives what is not finite. */
  async add(micro: MicroBatch): Promise<void> {
    const tokens = micro.targetRows.length;
    if (tokens === 0) return;
    const feeds: Feeds = {
      ...this.sequence.feeds(micro),
      rows: { dtype: 'int32', dims: [tokens], data: micro.targetRows },
      share: { dtype: 'float32', dims: [], data: Float32Array.of(1 / tokens) },
    };
    const asked = new Set(this.graph.inputs.map(({ name }) => name));
    const used = Object.fromEntries(Object.entries(feeds).filter(([name]) => asked.has(name)));
    const found = await this.session.run(
      used,
      this.sequence.lendable.filter((name) => asked.has(name)),
    );
    for (const [i, moments] of this.inputs.entries()) {
      const mean = found[`mean.${i}`].data as Float32Array;
      if (!mean.every(Number.isFinite))
        throw new UserError(`the input of ${this.entered[i].name} is not finite`);
      addMoments(moments, { tokens, mean, scatter: found[`scatter.${i}`] as F32Tensor });
    }
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

/** Adds those of other tokens (Chan, Golub & LeVeque 1979): no sum of large squares is taken from another. */
export function addMoments(
  to: Moments,
  { tokens, mean, scatter }: Omit<Moments, 'mean'> & { mean: ArrayLike<number> },
): void {
  const size = to.mean.length;
  const [sum, added] = [to.scatter.data, scatter.data];
  const together = to.tokens + tokens;
  const apart = Float64Array.from(to.mean, (m, i) => mean[i] - m);
  const weight = (to.tokens * tokens) / together;
  for (let i = 0, at = 0; i < size; i++) {
    const factor = weight * apart[i];
    for (let j = 0; j < size; j++, at++) sum[at] += added[at] + factor * apart[j];
  }
  for (let i = 0; i < size; i++) to.mean[i] += (tokens / together) * apart[i];
  to.tokens = together;
}
