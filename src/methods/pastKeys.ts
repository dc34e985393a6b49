/** Trained keys and values before every sequence (Method.prefix), in graphs and in caches. */
import { addDims } from '../base/dims.js';
import type { HostTensor } from '../base/tensor.js';
import { f32 } from '../base/tensor.js';
import { input, reshape, slice, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { CacheLayout } from '../models/architecture.js';
import type { KeyValue, Stream } from '../models/model.js';
import { tableName } from '../models/stream.js';
import type { Adapter } from './adapter.js';

/** Positions that an adapter puts before every sequence. */
export function prefixLength(adapter: Adapter | undefined): number {
  return adapter?.method.prefix?.length(adapter.config) ?? 0;
}

/**
 * The stream behind an adapter's prefix, whose inputs are added to `params`; `stream` itself where there is none. Its
 * masks then have columns for the prefix before the others.
 */
export function behindPrefix(
  c: CacheLayout | null,
  adapter: Adapter | undefined,
  stream: Stream,
  params: Map<string, Tensor>,
): Stream {
  const own = adapter?.method.prefix;
  if (!adapter || !own || !c) return stream;
  const length = prefixLength(adapter);
  for (const { name, shape } of adapter.trainables) params.set(name, input(name, 'float32', shape));
  const all = own.build(adapter.config, (name) => params.get(name)!);
  const parts = reshape(all, [length, 2 * c.layers, c.kvHeads, c.headDim]);
  const part = (i: number) =>
    reshape(transpose(slice(parts, 1, i, 1), [1, 2, 0, 3]), [1, c.kvHeads, length, c.headDim]);
  const past = Array.from(
    { length: c.layers },
    (_, layer): KeyValue => ({ k: part(2 * layer), v: part(2 * layer + 1) }),
  );
  const masks = stream.masks.map(({ shape: [batch, one, queries, keys] }, i) =>
    input(tableName('mask', i), 'float32', [batch, one, queries, addDims(length, keys)]),
  );
  return {
    ...stream,
    masks,
    cache: { past: (layer) => past[layer], present: (_, added) => added },
  };
}

/** The prefix as what a decoding step would have added: k.0, v.0, … of [1, kvHeads, positions, headDim]. */
export function prefixRows(c: CacheLayout, adapter: Adapter): Record<string, HostTensor> {
  const all = adapter.method.prefix!.values(adapter.config, adapter.values).data;
  const length = prefixLength(adapter);
  const { kvHeads, headDim, layers } = c;
  const width = kvHeads * headDim;
  const rows: Record<string, HostTensor> = {};
  for (let i = 0; i < 2 * layers; i++) {
    const data = new Float32Array(length * width);
    for (let t = 0; t < length; t++) {
      const from = (t * 2 * layers + i) * width;
      for (let h = 0; h < kvHeads; h++) {
        data.set(all.subarray(from + h * headDim, from + (h + 1) * headDim), (h * length + t) * headDim);
      }
    }
    rows[`${i % 2 ? 'v' : 'k'}.${i >> 1}`] = f32(data, [1, kvHeads, length, headDim]);
  }
  return rows;
}
