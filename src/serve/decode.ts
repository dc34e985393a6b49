import { addDims, mulDims } from '../base/dims.js';
import { countNonFinite } from '../base/finite.js';
import { f32 } from '../base/tensor.js';
import { type CompiledGraph, compile } from '../graph/emit.js';
import type { Device } from '../graph/op.js';
import { gather, input } from '../graph/ops/index.js';
import type { Feeds, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { type Adapter, adaptedSites } from '../methods/adapter.js';
import { mergedSites } from '../methods/merged.js';
import { nonFiniteError } from '../methods/nonFinite.js';
import { prefixLength, prefixRows } from '../methods/pastKeys.js';
import { virtualCount, virtualFeeds } from '../methods/virtualTokens.js';
import type { BaseModel } from '../models/base.js';
import { decoder, lmHead } from '../models/decoder.js';
import { HIDDEN, SequenceFeeds } from '../models/feeds.js';
import type { DecoderConfig, KeyValue, Stream } from '../models/model.js';
import { KvCache } from './cache.js';

/** One graph for prefill and for each further token: new tokens in, logits of the last one and new cache rows out. */
export class DecodeStep {
  private readonly sequence: SequenceFeeds;

  private constructor(
    private readonly session: Session,
    private readonly model: BaseModel,
    private readonly device: Device | undefined,
    private graph: DecodeGraph,
    private adapter: Adapter | undefined,
    private merged: boolean,
  ) {
    this.sequence = new SequenceFeeds(model.config);
  }

  /** Compiles for a model, alone or with an adapter: kept apart, so it can be swapped, or merged at load. */
  static async create(
    runtime: Runtime,
    model: BaseModel,
    adapter: Adapter | undefined,
    { merged = false, ...options }: SessionOptions & { merged?: boolean } = {},
  ): Promise<DecodeStep> {
    const graph = decodeGraph(model, adapter, merged, options.device);
    const session = await runtime.load(graph.compiled, {
      prepack: true,
      ...options,
      weightsFolder: model.weightsFolder,
    });
    const step = new DecodeStep(session, model, options.device, graph, adapter, merged);
    await step.hold();
    return step;
  }

  /**
   * Takes over the values of an adapter, where it computes by the graph that this step was compiled from: with the same
   * sites, sizes and scales. false, and nothing done, where it does not.
   */
  async useAdapter(adapter: Adapter | undefined, merged: boolean): Promise<boolean> {
    if (adapter !== this.adapter || merged !== this.merged) {
      // What is merged is part of the graph; the base alone has no values to take.
      if (merged || this.merged || !adapter || !this.adapter) return false;
      if (!computeAlike(adapter, this.adapter)) {
        // Other words may mean the same: targets by a list of names, or by a pattern.
        const graph = decodeGraph(this.model, adapter, merged, this.device);
        if (!sameBytes(graph.compiled.bytes, this.graph.compiled.bytes)) return false;
        this.graph = graph;
      }
      this.adapter = adapter;
    }
    await this.hold();
    return true;
  }

  /** Gives the engine the adapter's values as they are now. */
  private async hold(): Promise<void> {
    const { adapter, graph } = this;
    if (!adapter || graph.params.length === 0) return;
    await this.session.hold(
      Object.fromEntries(graph.params.map((name) => [name, adapter.values.get(name)!])),
    );
  }

  /** Positions that a cache holds, or will before the first token that it is given. */
  promptLength(cache: KvCache): number {
    return cache.length || virtualCount(this.adapter);
  }

  /** A cache to begin with: empty, or with the prefix of the adapter. */
  newCache(): KvCache {
    const cache = new KvCache(this.model.config);
    const length = prefixLength(this.adapter);
    if (length > 0) cache.append(prefixRows(this.model.config, this.adapter!), length);
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
    const { heads, kvHeads, slidingWindow } = this.model.config;
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
    const lent = ['mask', 'cos', 'sin', ...KvCache.names(this.model.config.layers)];
    const outputs = await this.session.run(feeds, lent);
    cache.append(outputs, n);
    const logits = outputs.logits.data as Float32Array;
    if (countNonFinite(logits) > 0) throw await nonFiniteError('what comes next', this.model, this.adapter);
    return logits;
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

interface DecodeGraph {
  compiled: CompiledGraph;
  /** Graph inputs that the adapter's values feed. */
  params: readonly string[];
}

function decodeGraph(
  model: BaseModel,
  adapter: Adapter | undefined,
  merged: boolean,
  device: Device | undefined,
): DecodeGraph {
  const { config } = model;
  const served = { ...model, serving: true };
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
