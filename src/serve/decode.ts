import { addDims, mulDims } from '../base/dims.js';
import { f32 } from '../base/tensor.js';
import { compile } from '../graph/emit.js';
import { gather, input } from '../graph/ops/index.js';
import type { Feeds, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { type Adapter, adaptedSites } from '../methods/adapter.js';
import { mergedSites } from '../methods/merged.js';
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
    private readonly config: DecoderConfig,
    private readonly params: readonly string[],
  ) {
    this.sequence = new SequenceFeeds(config);
  }

  /** Compiles for a model, alone or with an adapter: kept apart, so it can be swapped, or merged at load. */
  static async create(
    runtime: Runtime,
    model: BaseModel,
    adapter: Adapter | undefined,
    { merged = false, ...options }: SessionOptions & { merged?: boolean } = {},
  ): Promise<DecodeStep> {
    const { config } = model;
    const { sites, params } =
      adapter && merged
        ? { sites: mergedSites(model, adapter), params: new Map<string, Tensor>() }
        : adaptedSites(model, adapter, false);
    const { stream, present } = decodingStream(config);
    const hidden = decoder(config, sites, stream);
    const logits = lmHead(config, sites, gather(hidden, input('last', 'int32', [1])));
    const outputs: Record<string, Tensor> = { logits };
    present.forEach(({ k, v }, layer) => {
      outputs[`k.${layer}`] = k;
      outputs[`v.${layer}`] = v;
    });
    const graph = compile(outputs, options.device);
    const session = await runtime.load(graph, {
      prepack: true,
      ...options,
      weightsFolder: model.weightsFolder,
    });
    const step = new DecodeStep(session, config, [...params.keys()]);
    if (adapter) await step.useAdapter(adapter);
    return step;
  }

  /** Swaps the values of the adapter in place; its sites and ranks must be those it was compiled with. */
  async useAdapter(adapter: Adapter): Promise<void> {
    await this.session.hold(Object.fromEntries(this.params.map((name) => [name, adapter.values.get(name)!])));
  }

  /** Feeds tokens after what the cache holds and returns the logits of the last one, [vocab]. */
  async run(ids: readonly number[], cache: KvCache): Promise<Float32Array> {
    const { heads, kvHeads, slidingWindow } = this.config;
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
      ...cache.feeds(),
    };
    const lent = ['mask', 'cos', 'sin', ...KvCache.names(this.config.layers)];
    const outputs = await this.session.run(feeds, lent);
    cache.append(outputs, n);
    return outputs.logits.data as Float32Array;
  }

  close(): Promise<void> {
    return this.session.close();
  }
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
