import { UserError } from '../base/errors.js';
import { f32, type HostTensor } from '../base/tensor.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { StreamSpec } from './architecture.js';
import { distanceIndices, neighbourRows } from './distances.js';
import { decodingMask, fillCausalMask, fillMutualMask, fillWholeMask } from './masks.js';
import { lengthsLike, ropeTables } from './rope.js';
import { DISTANCES, isMaskPerQuery, NEIGHBOURS, TYPE_IDS, tableName } from './stream.js';

/** Rows of tokens, right-padded. */
export interface Rows {
  rows: number;
  length: number;
  /** [rows, length] */
  ids: Int32Array;
  /** Tokens of each row that are not padding. */
  lengths: Int32Array;
  /** [rows, length], which text of its row each token is of, from 0; absent: the first. */
  typeIds?: Int32Array;
  /** Of packed rows: [rows, length], the column in which the example that a position belongs to begins. */
  starts?: Int32Array;
}

/** Rows of tokens with their targets. */
export interface TargetRows extends Rows {
  /** Flat indices of positions, and what is to be told at each. */
  targetRows: Int32Array;
  targetIds: Int32Array;
}

/** Tables by the names of the inputs that they feed. */
type Tables = Record<string, HostTensor>;

/**
 * What the graphs of a network need beside ids, kept between steps: positions, masks and rotary tables for the
 * lengths met so far.
 */
export class SequenceFeeds {
  /** The tables last made, and the lengths that they are for. */
  private rotary: { tables: Tables; from: number; to: number } | undefined;
  private distances: HostTensor | undefined;
  private readonly masks = new Map<number, Tables>();
  /** Names of the feeds that are made here and not needed by anybody else: they may be lent to the engine. */
  readonly lendable: readonly string[];

  constructor(
    private readonly spec: StreamSpec,
    /** Positions before every sequence that each of its own sees: those of trained keys. */
    private readonly prefix = 0,
  ) {
    this.lendable = [
      ...spec.windows.map((_, i) => tableName('mask', i)),
      ...spec.ropes.flatMap((_, i) => [tableName('cos', i), tableName('sin', i)]),
    ];
  }

  /** Feeds for rows that are one example each, or for packed ones: positions restart, and nothing sees across. */
  feeds(given: Rows): Feeds {
    const { rows, length, ids, starts } = given;
    const { attends, types, firstPosition, neighbours } = this.spec;
    const causal = () => (starts ? this.packedMasks(rows, length, starts) : this.causalMasks(length));
    return {
      ids: { dtype: 'int32', dims: [rows, length], data: ids },
      ...(firstPosition !== null && { positions: this.positionsOf(given, firstPosition) }),
      ...this.distanceTable(length),
      ...(neighbours && {
        [NEIGHBOURS]: {
          dtype: 'int32',
          dims: [rows, length, neighbours],
          data: neighbourRows(given, neighbours),
        },
      }),
      ...(types > 0 && { [TYPE_IDS]: { dtype: 'int32', dims: [rows, length], data: this.typesOf(given) } }),
      ...(attends === 'causal' ? causal() : this.mutualMasks(given)),
      ...this.rotaryTables(this.prefix + length),
    };
  }

  /** Feeds of `ids` that come after `start` positions, for which a cache has `room`. */
  decodingFeeds(ids: readonly number[], start: number, room: number): Feeds {
    const { groups } = this.spec;
    const n = ids.length;
    return {
      ids: { dtype: 'int32', dims: [1, n], data: Int32Array.from(ids) },
      positions: {
        dtype: 'int64',
        dims: [1, n],
        data: BigInt64Array.from({ length: n }, (_, i) => BigInt(start + i)),
      },
      ...this.masksOf((window) =>
        f32(decodingMask(groups, n, start, room, window), [1, 1, groups * n, room + n]),
      ),
      ...this.rotaryTables(start + n),
    };
  }

  private positionsOf({ rows, length, starts }: Rows, from: number): HostTensor {
    const first = from + this.prefix;
    const position = starts ? (at: number) => (at % length) - starts[at] : (at: number) => at % length;
    const data = BigInt64Array.from({ length: rows * length }, (_, at) => BigInt(first + position(at)));
    return { dtype: 'int64', dims: [rows, length], data };
  }

  /** Indices of distances, those of the last length kept. */
  private distanceTable(length: number): Tables {
    const { distances } = this.spec;
    if (!distances) return {};
    if (this.distances?.dims[0] !== length) {
      const data = distanceIndices(length, distances);
      this.distances = { dtype: 'int32', dims: [length, length], data };
    }
    return { [DISTANCES]: this.distances! };
  }

  /** Rotary tables for a sequence of `length` positions. */
  private rotaryTables(length: number): Tables {
    const kept = this.rotary;
    if (kept && kept.from <= length && length <= kept.to) return kept.tables;
    const { ropes } = this.spec;
    const ranges = ropes.map((rope) => lengthsLike(rope, length));
    const from = Math.max(1, ...ranges.map(([first]) => first));
    // Room for longer ones that have the same frequencies.
    const to = Math.min(Math.max(64, 2 ** Math.ceil(Math.log2(length))), ...ranges.map(([, last]) => last));
    const tables: Tables = {};
    for (const [i, rope] of ropes.entries()) {
      const { cos, sin } = ropeTables(rope, length, to);
      tables[tableName('cos', i)] = f32(cos, [to, rope.dim / 2]);
      tables[tableName('sin', i)] = f32(sin, [to, rope.dim / 2]);
    }
    this.rotary = { tables, from, to };
    return tables;
  }

  /** A mask for each window. */
  private masksOf(make: (window: number | null) => HostTensor): Tables {
    return Object.fromEntries(this.spec.windows.map((window, i) => [tableName('mask', i), make(window)]));
  }

  private causalMasks(length: number): Tables {
    let masks = this.masks.get(length);
    if (!masks) {
      const { groups } = this.spec;
      const keys = this.prefix + length;
      masks = this.masksOf((window) => {
        const data = new Float32Array(groups * length * keys);
        fillCausalMask(data, groups, length, window, undefined, this.prefix);
        return f32(data, [1, 1, groups * length, keys]);
      });
      // Lengths vary little within a run; a few masks are worth keeping, all of them are not.
      if (this.masks.size >= 16) this.masks.clear();
      this.masks.set(length, masks);
    }
    return masks;
  }

  /** Masks of rows that see all of themselves but their padding: one row for all queries where that is the same for each. */
  private mutualMasks({ rows, length, lengths, starts }: Rows): Tables {
    const { groups } = this.spec;
    const keys = this.prefix + length;
    return this.masksOf((window) => {
      const queries = isMaskPerQuery(window, starts !== undefined) ? groups * length : 1;
      const size = queries * keys;
      const data = new Float32Array(rows * size);
      for (let row = 0; row < rows; row++) {
        const own = data.subarray(row * size, (row + 1) * size);
        const start = starts?.subarray(row * length, (row + 1) * length);
        if (queries === 1) fillWholeMask(own, lengths[row], this.prefix);
        else fillMutualMask(own, groups, length, window, lengths[row], start, this.prefix);
      }
      return f32(data, [rows, 1, queries, keys]);
    });
  }

  /** Throws UserError for a type that the model has no embedding of. */
  private typesOf({ rows, length, typeIds }: Rows): Int32Array {
    const { types } = this.spec;
    const unknown = typeIds?.find((type) => type < 0 || type >= types);
    if (unknown !== undefined)
      throw new UserError(`a token has the type ${unknown}, and the model has types below ${types}`);
    return typeIds ?? new Int32Array(rows * length);
  }

  private packedMasks(rows: number, length: number, starts: Int32Array): Tables {
    const { groups } = this.spec;
    const keys = this.prefix + length;
    const size = groups * length * keys;
    return this.masksOf((window) => {
      const data = new Float32Array(rows * size);
      for (let row = 0; row < rows; row++) {
        const own = starts.subarray(row * length, (row + 1) * length);
        fillCausalMask(data.subarray(row * size, (row + 1) * size), groups, length, window, own, this.prefix);
      }
      return f32(data, [rows, 1, groups * length, keys]);
    });
  }
}
