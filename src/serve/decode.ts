import type { UserError } from '../base/errors.js';
import { countNonFinite } from '../base/finite.js';
import type { F32Tensor } from '../base/tensor.js';
import { type CompiledGraph, compile } from '../graph/emit.js';
import type { Device } from '../graph/op.js';
import { gather, input } from '../graph/ops/index.js';
import type { Feeds, Held, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { ACTIVE, type Adapter, adaptedSites, copyOf } from '../methods/adapter.js';
import { activeFrom, invocationOf, lastOccurrence } from '../methods/invocation.js';
import { mergedSites } from '../methods/merged.js';
import { nonFiniteError } from '../methods/nonFinite.js';
import { prefixLength, prefixRows } from '../methods/pastKeys.js';
import { virtualCount, virtualFeeds } from '../methods/virtualTokens.js';
import { type CacheLayout, type LanguageModel, languageModel } from '../models/architecture.js';
import type { BaseModel } from '../models/base.js';
import { SequenceFeeds } from '../models/feeds.js';
import { decodingStream } from '../models/stream.js';
import { KvCache } from './cache.js';

/** What is computed with: a base, alone or with an adapter, kept apart or merged into the matrices. */
export interface Active {
  base: BaseModel;
  adapter: Adapter | undefined;
  merged: boolean;
}

/**
 * One graph for prefill and for each further token: new tokens in, logits of the last one and new cache rows out. It serves
 * any number of adapters of one shape at once, each by a step of its own.
 */
export class Decoder {
  private readonly sequence: SequenceFeeds;
  private readonly graph: DecodeGraph;
  private session: Promise<Session> | undefined;

  /** Builds the graph of a model, alone or with an adapter; it is loaded with the first step. */
  constructor(
    private readonly runtime: Runtime,
    /** What it was made for. Its adapter may have lost its values to a step. */
    private made: Active,
    private readonly options: SessionOptions = {},
  ) {
    this.sequence = new SequenceFeeds(made.base.network.stream);
    this.graph = decodeGraph(made, options.device);
  }

  /** ONNX nodes of its graph. */
  get nodeCount(): number {
    return this.graph.compiled.nodeCount;
  }

  /** Whether it computes what is asked for: on the same base, with the same sites, sizes and scales. */
  fits(active: Active): boolean {
    const { base, adapter, merged } = this.made;
    if (active.base !== base || active.merged !== merged) return false;
    if (!active.adapter || !adapter) return active.adapter === adapter;
    // What is merged is part of the graph.
    if (merged) return computeAlike(active.adapter, adapter) && haveEqualValues(active.adapter, adapter);
    if (computeAlike(active.adapter, adapter)) return true;
    // Other words may mean the same: targets by a list of names, or by a pattern.
    const { compiled } = decodeGraph(active, this.options.device);
    if (!sameBytes(compiled.bytes, this.graph.compiled.bytes)) return false;
    this.made = active;
    return true;
  }

  /** A step with an adapter that this fits. It takes the adapter's values: they are moved to the engine. */
  async step(adapter: Adapter | undefined): Promise<DecodeStep> {
    const session = await this.load();
    const params = this.graph.params.map((name) => [name, adapter!.values.get(name)!] as const);
    const held = params.length > 0 ? await session.hold(Object.fromEntries(params)) : undefined;
    return new DecodeStep(session, this.made.base, this.sequence, adapter, held);
  }

  async close(): Promise<void> {
    // One that could not be loaded has told so.
    const session = await this.session?.catch(() => undefined);
    await session?.close();
  }

  private load(): Promise<Session> {
    const { weightsFolder } = this.made.base;
    this.session ??= this.runtime
      .load(this.graph.compiled, { prepack: true, ...this.options, weightsFolder })
      .catch((error: unknown) => {
        this.session = undefined;
        throw error;
      });
    return this.session;
  }
}

/** A decoder with the values of one adapter, as they were when the step was made. */
export class DecodeStep {
  private decoder: Decoder | undefined;

  /** Use Decoder.step or DecodeStep.create. */
  constructor(
    private readonly session: Session,
    private readonly base: BaseModel,
    private readonly sequence: SequenceFeeds,
    /** Of its values those that the graph takes are in the engine. */
    private readonly adapter: Adapter | undefined,
    private readonly held: Held | undefined,
  ) {}

  /** A step with a decoder of its own, which is closed with it. The adapter keeps its values. */
  static async create(
    runtime: Runtime,
    base: BaseModel,
    adapter: Adapter | undefined,
    { merged = false, ...options }: SessionOptions & { merged?: boolean } = {},
  ): Promise<DecodeStep> {
    const decoder = new Decoder(runtime, { base, adapter, merged }, options);
    const step = await decoder.step(adapter && copyOf(adapter));
    step.decoder = decoder;
    return step;
  }

  /** Positions that a cache holds, or will before the first token that it is given. */
  promptLength(cache: KvCache): number {
    return cache.length || virtualCount(this.adapter);
  }

  private get layout(): CacheLayout {
    return generating(this.base).cache;
  }

  /** A cache to begin with: empty, or with the prefix of the adapter. */
  newCache(): KvCache {
    const { layout } = this;
    const cache = new KvCache(layout);
    const length = prefixLength(this.adapter);
    if (length > 0) cache.append(prefixRows(layout, this.adapter!), length);
    return cache;
  }

  /**
   * Feeds tokens after what the cache holds and returns the logits of the last one, [vocab]. Throws UserError where they are
   * not finite.
   */
  async run(given: readonly number[], cache: KvCache): Promise<Float32Array> {
    const virtual = virtualCount(this.adapter);
    const before = cache.length === 0 ? virtual : 0;
    const ids = [...Array<number>(before).fill(0), ...given];
    const n = ids.length;
    const feeds: Feeds = {
      ...this.sequence.decodingFeeds(ids, cache.length, cache.room),
      last: { dtype: 'int32', dims: [1], data: Int32Array.of(n - 1) },
      ...virtualFeeds(
        virtual,
        1,
        Int32Array.from(ids, (_, i) => (i < before ? i : virtual)),
      ),
      ...cache.feeds(),
      ...this.activeFeeds(ids, cache),
    };
    const lent = [...this.sequence.lendable, ...KvCache.names(this.layout.layers)];
    const outputs = await this.session.run(feeds, lent, this.held);
    cache.append(outputs, n);
    const logits = outputs.logits.data as Float32Array;
    if (countNonFinite(logits) > 0) throw await this.nonFinite();
    return logits;
  }

  /** Of an adapter that tokens call: where it takes part. */
  private activeFeeds(ids: readonly number[], cache: KvCache): Feeds {
    const tokens = invocationOf(this.adapter);
    if (!tokens) return {};
    const start = cache.length === 0 ? lastOccurrence(tokens, ids) : cache.isActive ? 0 : -1;
    cache.isActive = start >= 0;
    return { [ACTIVE]: activeFrom(start < 0 ? ids.length : start, ids.length) };
  }

  /** What to throw where the logits are not finite; the step is over then. */
  private async nonFinite(): Promise<UserError> {
    const { adapter } = this;
    const back = Object.entries((await this.held?.release()) ?? {}) as [string, F32Tensor][];
    const values = adapter && { values: new Map([...adapter.values, ...back]) };
    return nonFiniteError('what comes next', this.base, values);
  }

  /** Frees the values, and a decoder of its own. */
  async close(): Promise<void> {
    await this.held?.release();
    await this.decoder?.close();
  }
}

interface DecodeGraph {
  compiled: CompiledGraph;
  /** Graph inputs that the adapter's values feed. */
  params: readonly string[];
}

/** Throws UserError for an encoder. */
function generating({ network }: BaseModel): LanguageModel {
  return languageModel(network, 'does not generate');
}

function decodeGraph({ base, adapter, merged }: Active, device: Device | undefined): DecodeGraph {
  const network = generating(base);
  const served = { ...base, serving: true };
  const { sites, params } =
    adapter && merged
      ? { sites: mergedSites(served, adapter), params: new Map<string, Tensor>() }
      : adaptedSites(served, adapter, false);
  const { stream, present } = decodingStream(network);
  const hidden = network.forward(sites, stream);
  const logits = network.lmHead(sites, gather(hidden, input('last', 'int32', [1])));
  const outputs: Record<string, Tensor> = { logits };
  present.forEach(({ k, v }, layer) => {
    outputs[`k.${layer}`] = k;
    outputs[`v.${layer}`] = v;
  });
  return { compiled: compile(outputs, device), params: [...params.keys()] };
}

/** Whether the same configuration of the same method made both, on tensors of the same sizes: then the graph is the same. */
function computeAlike(a: Adapter, b: Adapter): boolean {
  if (a.method !== b.method || JSON.stringify(a.config) !== JSON.stringify(b.config)) return false;
  const sizes = ({ values }: Adapter) => JSON.stringify([...values].map(([name, { dims }]) => [name, dims]));
  return sizes(a) === sizes(b);
}

function haveEqualValues(a: Adapter, b: Adapter): boolean {
  const bytes = ({ data }: F32Tensor) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return [...a.values].every(([name, t]) => bytes(t).equals(bytes(b.values.get(name)!)));
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
