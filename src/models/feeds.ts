import { f32, type HostTensor } from '../base/tensor.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { DecoderConfig } from './model.js';
import { ropeTables } from './rope.js';

/** Score of a position that may not be seen; far below any real one, and finite, so that no row is NaN. */
export const HIDDEN = -1e9;

/**
 * What a whole-sequence graph needs beside its ids, kept between steps: positions, causal mask and rotary
 * tables for the lengths met so far.
 */
export class SequenceFeeds {
  private tables: { cos: HostTensor; sin: HostTensor; positions: number } | undefined;
  private readonly masks = new Map<number, HostTensor>();

  constructor(private readonly config: DecoderConfig) {}

  /** Feeds for `rows` sequences of `length` tokens, right-padded. */
  feeds(ids: Int32Array, rows: number, length: number): Feeds {
    const positions = BigInt64Array.from({ length: rows * length }, (_, i) => BigInt(i % length));
    const { cos, sin } = this.rope(length);
    return {
      ids: { dtype: 'int32', dims: [rows, length], data: ids },
      positions: { dtype: 'int64', dims: [rows, length], data: positions },
      mask: this.mask(length),
      cos,
      sin,
    };
  }

  /** Names of the feeds that are kept here, and may be lent to the engine. */
  static readonly lendable: readonly string[] = ['mask', 'cos', 'sin'];

  /** Rotary tables for at least `positions` positions. */
  rope(positions: number): { cos: HostTensor; sin: HostTensor } {
    if (!this.tables || this.tables.positions < positions) {
      const { headDim, rope } = this.config;
      const size = Math.max(64, 2 ** Math.ceil(Math.log2(positions)));
      const { cos, sin } = ropeTables(rope, headDim, size);
      const dims = [size, headDim / 2];
      this.tables = { cos: f32(cos, dims), sin: f32(sin, dims), positions: size };
    }
    return this.tables;
  }

  private mask(length: number): HostTensor {
    let mask = this.masks.get(length);
    if (!mask) {
      const groups = this.config.heads / this.config.kvHeads;
      const data = new Float32Array(groups * length * length);
      fillCausalMask(data, groups, length, 0, this.config.slidingWindow);
      mask = f32(data, [1, 1, groups * length, length]);
      // Lengths vary little within a run; a few masks are worth keeping, all of them are not.
      if (this.masks.size >= 16) this.masks.clear();
      this.masks.set(length, mask);
    }
    return mask;
  }
}

/**
 * Fills [groups·queries, keys] so that query i, at position `start` + i, sees keys at positions up to its own,
 * and no further back than the window; key j stands at position j.
 */
export function fillCausalMask(
  data: Float32Array,
  groups: number,
  queries: number,
  start: number,
  window: number | null,
): void {
  const keys = data.length / (groups * queries);
  for (let i = 0; i < queries; i++) {
    const row = data.subarray(i * keys, (i + 1) * keys);
    const first = window === null ? 0 : Math.max(0, start + i - window + 1);
    row.fill(HIDDEN);
    row.fill(0, first, Math.min(keys, start + i + 1));
  }
  for (let g = 1; g < groups; g++) data.copyWithin(g * queries * keys, 0, queries * keys);
}
