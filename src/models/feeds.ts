import { f32, type HostTensor } from '../base/tensor.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { DecoderConfig } from './model.js';
import { ropeTables } from './rope.js';

/** Score of a position that may not be seen; far below any real one, and finite, so that no row is NaN. */
export const HIDDEN = -1e9;

/** Rows of tokens, right-padded. */
export interface Rows {
  rows: number;
  length: number;
  /** [rows, length] */
  ids: Int32Array;
  /** Of packed rows: [rows, length], the column in which the example that a position belongs to begins. */
  starts?: Int32Array;
}

/**
 * What a whole-sequence graph needs beside its ids, kept between steps: positions, causal mask and rotary
 * tables for the lengths met so far.
 */
export class SequenceFeeds {
  private tables: { cos: HostTensor; sin: HostTensor; positions: number } | undefined;
  private readonly masks = new Map<number, HostTensor>();

  constructor(
    private readonly config: DecoderConfig,
    /** Positions before every sequence that each of its own sees: those of trained keys. */
    private readonly prefix = 0,
  ) {}

  /** Feeds for rows that are one example each, or for packed ones: positions restart, and nothing sees across. */
  feeds({ rows, length, ids, starts }: Rows): Feeds {
    const position = starts ? (at: number) => (at % length) - starts[at] : (at: number) => at % length;
    const positions = BigInt64Array.from({ length: rows * length }, (_, at) =>
      BigInt(this.prefix + position(at)),
    );
    const { cos, sin } = this.rope(this.prefix + length);
    return {
      ids: { dtype: 'int32', dims: [rows, length], data: ids },
      positions: { dtype: 'int64', dims: [rows, length], data: positions },
      mask: starts ? this.packedMask(rows, length, starts) : this.mask(length),
      cos,
      sin,
    };
  }

  /** Names of the feeds that are made here and not needed by anybody else: they may be lent to the engine. */
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
      const keys = this.prefix + length;
      const data = new Float32Array(groups * length * keys);
      fillCausalMask(data, groups, length, this.config.slidingWindow, undefined, this.prefix);
      mask = f32(data, [1, 1, groups * length, keys]);
      // Lengths vary little within a run; a few masks are worth keeping, all of them are not.
      if (this.masks.size >= 16) this.masks.clear();
      this.masks.set(length, mask);
    }
    return mask;
  }
  private packedMask(rows: number, length: number, starts: Int32Array): HostTensor {
    const groups = this.config.heads / this.config.kvHeads;
    const keys = this.prefix + length;
    const size = groups * length * keys;
    const data = new Float32Array(rows * size);
    for (let row = 0; row < rows; row++) {
      const own = starts.subarray(row * length, (row + 1) * length);
      fillCausalMask(
        data.subarray(row * size, (row + 1) * size),
        groups,
        length,
        this.config.slidingWindow,
        own,
        this.prefix,
      );
    }
    return f32(data, [rows, 1, groups * length, keys]);
  }
}

/**
 * Fills [groups·length, prefix + length] so that query i sees keys up to its own and no further back than the window, or
 * than the column `starts[i]` of packed rows; of the prefix, which stands before each example, what the window reaches.
 */
export function fillCausalMask(
  data: Float32Array,
  groups: number,
  length: number,
  window: number | null,
  starts?: Int32Array,
  prefix = 0,
): void {
  const keys = prefix + length;
  for (let i = 0; i < length; i++) {
    const row = data.subarray(i * keys, (i + 1) * keys);
    const start = starts?.[i] ?? 0;
    const first = Math.max(start, window === null ? 0 : i - window + 1);
    const reached = window === null ? 0 : Math.max(0, prefix + i - start - window + 1);
    row.fill(HIDDEN);
    row.fill(0, Math.min(reached, prefix), prefix);
    row.fill(0, prefix + first, prefix + i + 1);
  }
  for (let g = 1; g < groups; g++) data.copyWithin(g * length * keys, 0, length * keys);
}
