import { type F32Tensor, f32 } from '../base/tensor.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { CacheLayout } from '../models/architecture.js';

/** Room is added in steps of this many positions, doubling. */
const FIRST_CAPACITY = 64;

/**
 * Keys and values of one sequence, a pair of arrays a layer: [1, kvHeads, capacity, headDim]. The arrays are feeds;
 * the engine returns only new rows, which `append` writes into them, so nothing large is copied a token.
 */
export class KvCache {
  /** Positions filled. */
  length = 0;
  /** Whether an adapter that tokens call was called by the prompt: then it takes part in all that comes. */
  isActive = false;
  private capacity = 0;
  private readonly tensors: F32Tensor[];

  constructor(private readonly layout: CacheLayout) {
    this.tensors = Array.from({ length: 2 * layout.layers }, () => this.empty(0));
  }

  /** Positions that the feeds have room for; those past `length` hold zeros and must be masked. */
  get room(): number {
    return this.capacity;
  }

  /** Names of the cache's feeds: past.k.0, past.v.0, … */
  static names(layers: number): string[] {
    return Array.from({ length: 2 * layers }, (_, i) => `past.${i % 2 ? 'v' : 'k'}.${i >> 1}`);
  }

  feeds(): Feeds {
    return Object.fromEntries(KvCache.names(this.layout.layers).map((name, i) => [name, this.tensors[i]]));
  }

  /** Makes sure that `extra` more positions fit. */
  reserve(extra: number): void {
    const needed = this.length + extra;
    if (needed <= this.capacity) return;
    let capacity = Math.max(this.capacity, FIRST_CAPACITY);
    while (capacity < needed) capacity *= 2;
    const { kvHeads, headDim } = this.layout;
    for (const [i, old] of this.tensors.entries()) {
      const grown = this.empty(capacity);
      for (let h = 0; h < kvHeads; h++) {
        const from = h * this.capacity * headDim;
        grown.data.set(old.data.subarray(from, from + this.length * headDim), h * capacity * headDim);
      }
      this.tensors[i] = grown;
    }
    this.capacity = capacity;
  }

  /** Writes what a step added: outputs k.0, v.0, … of [1, kvHeads, count, headDim]. */
  append(outputs: Feeds, count: number): void {
    this.reserve(count);
    const { kvHeads, headDim, layers } = this.layout;
    for (let i = 0; i < 2 * layers; i++) {
      const added = outputs[`${i % 2 ? 'v' : 'k'}.${i >> 1}`].data as Float32Array;
      for (let h = 0; h < kvHeads; h++) {
        this.tensors[i].data.set(
          added.subarray(h * count * headDim, (h + 1) * count * headDim),
          (h * this.capacity + this.length) * headDim,
        );
      }
    }
    this.length += count;
  }

  private empty(capacity: number): F32Tensor {
    const { kvHeads, headDim } = this.layout;
    return f32(new Float32Array(kvHeads * capacity * headDim), [1, kvHeads, capacity, headDim]);
  }
}
