import { addDims, mulDims } from '../base/dims.js';
import type { UserError } from '../base/errors.js';
import { countNonFinite } from '../base/finite.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { type CompiledGraph, compile } from '../graph/emit.js';
import type { Device } from '../graph/op.js';
import { gather, input } from '../graph/ops/index.js';
import type { Feeds, Held, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { type Adapter, adaptedSites, copyOf } from '../methods/adapter.js';
import { mergedSites } from '../methods/merged.js';
import { nonFiniteError } from '../methods/nonFinite.js';
import { prefixLength, prefixRows } from '../methods/pastKeys.js';
import { virtualCount, virtualFeeds } from '../methods/virtualTokens.js';
import type { BaseModel } from '../models/base.js';
import { decoder, lmHead } from '../models/decoder.js';
import { HIDDEN, SequenceFeeds } from '../models/feeds.js';
import type { DecoderConfig, KeyValue, Stream } from '../models/model.js';
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
    this.sequence = new SequenceFeeds(made.base.config);
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

  /** A cache to begin with: empty, or with the prefix of the adapter. */
  newCache(): KvCache {
    const { config } = this.base;
    const cache = new KvCache(config);
    const length = prefixLength(this.adapter);
    if (length > 0) cache.append(prefixRows(config, this.adapter!), length);
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
    const { heads, kvHeads, slidingWindow } = this.base.config;
    const groups = heads / kvHeads;
    const n = ids.length;
    const start = cache.length;
    const mask = decodingMask(groups, n, start, cache.room, slidingWindow);
    const { cos, sin } = this.sequence.rope(start + n);
    const feeds: Feeds = {
      ids: { dtype: 'int32', dims: [1, n], data: Int32Array.from(ids) },
      positions: {
        dtype: 'int64',
        dims: [1, n],
        data: BigInt64Array.from({ length: n }, (_, i) => BigInt(start + i)),
      },
      mask: f32(mask, [1, 1, groups * n, cache.room + n]),
      cos,
      sin,
      last: { dtype: 'int32', dims: [1], data: Int32Array.of(n - 1) },
      ...virtualFeeds(
        virtual,
        1,
        Int32Array.from(ids, (_, i) => (i < before ? i : virtual)),
      ),
      ...cache.feeds(),
    };
    const lent = ['mask', 'cos', 'sin', ...KvCache.names(this.base.config.layers)];
    const outputs = await this.session.run(feeds, lent, this.held);
    cache.append(outputs, n);
    const logits = outputs.logits.data as Float32Array;
    if (countNonFinite(logits) > 0) throw await this.nonFinite();
    return logits;
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

function decodeGraph({ base, adapter, merged }: Active, device: Device | undefined): DecodeGraph {
  const { config } = base;
  const served = { ...base, serving: true };
  const { sites, params } =
    adapter && merged
      ? { sites: mergedSites(served, adapter), params: new Map<string, Tensor>() }
      : adaptedSites(served, adapter, false);
  const { stream, present } = decodingStream(config);
  const hidden = decoder(config, sites, stream);
  const logits = lmHead(config, sites, gather(hidden, input('last', 'int32', [1])));
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

/** Inputs of a decoding step; sizes `seq` (new tokens) and `past` (the cache's room) are symbolic. */
function decodingStream(c: DecoderConfig): { stream: Stream; present: KeyValue[] } {
  const present: KeyValue[] = [];
  const cached = (name: string) => input(name, 'float32', ['batch', c.kvHeads, 'past', c.headDim]);
  const stream: Stream = {
    ids: input('ids', 'int32', ['batch', 'seq']),
    positions: input('positions', 'int64', ['batch', 'seq']),
    mask: input('mask', 'float32', [1, 1, mulDims(c.heads / c.kvHeads, 'seq'), addDims('past', 'seq')]),
    cos: input('cos', 'float32', ['table', c.headDim / 2]),
    sin: input('sin', 'float32', ['table', c.headDim / 2]),
    cache: {
      past: (layer) => ({ k: cached(`past.k.${layer}`), v: cached(`past.v.${layer}`) }),
      present: (layer, added) => {
        present[layer] = added;
      },
    },
  };
  return { stream, present };
}

/**
 * Mask [groups·n, room + n] of n new queries at positions from `start`. Keys: the cache's room, filled up to `start`, then
 * the new ones.
 */
function decodingMask(
  groups: number,
  n: number,
  start: number,
  room: number,
  window: number | null,
): Float32Array {
  const keys = room + n;
  const mask = new Float32Array(groups * n * keys).fill(HIDDEN);
  for (let i = 0; i < n; i++) {
    const row = mask.subarray(i * keys, (i + 1) * keys);
    const first = window === null ? 0 : Math.max(0, start + i - window + 1);
    row.fill(0, Math.min(first, start), start);
    row.fill(0, room + Math.max(0, first - start), room + i + 1);
  }
  for (let g = 1; g < groups; g++) mask.copyWithin(g * n * keys, 0, n * keys);
  return mask;
}
