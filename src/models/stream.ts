/** The inputs of a network's graphs: what flows through it, as `StreamSpec` asks. */
import { addDims, type Dim, mulDims } from '../base/dims.js';
import { input } from '../graph/ops/index.js';
import type { CacheLayout, Network, StreamSpec } from './architecture.js';
import type { KeyValue, Stream } from './model.js';

/** Names of the inputs of the table at `place`. The first has the plain name. */
export const tableName = (name: string, place: number): string => (place === 0 ? name : `${name}.${place}`);

/** Name of the input of token types. */
export const TYPE_IDS = 'typeIds';

/** Names of the inputs of `StreamSpec.distances` and `neighbours`. */
export const DISTANCES = 'distances';
export const NEIGHBOURS = 'neighbours';

/** Whether a mask of rows that see all of themselves differs from query to query. */
export function isMaskPerQuery(window: number | null, packed: boolean): boolean {
  return packed || window !== null;
}

/**
 * Inputs of a whole-sequence pass: sizes `batch` and `seq` are symbolic. Packed rows have a mask each, others share one
 * where they see only what is before: what is behind is then no matter.
 */
export function trainingStream({ stream }: Network, packed = false): Stream {
  const { attends, groups } = stream;
  if (attends === 'causal')
    return streamOf(stream, packed ? 'batch' : 1, () => mulDims(groups, 'seq'), 'seq');
  const queries = (window: number | null) => (isMaskPerQuery(window, packed) ? mulDims(groups, 'seq') : 1);
  return streamOf(stream, 'batch', queries, 'seq');
}

/** Inputs of a decoding step; sizes `seq` (new tokens) and `past` (the cache's room) are symbolic. */
export function decodingStream({ stream, cache }: { stream: StreamSpec; cache: CacheLayout }): {
  stream: Stream;
  present: KeyValue[];
} {
  const present: KeyValue[] = [];
  const cached = (name: string) => input(name, 'float32', ['batch', cache.kvHeads, 'past', cache.headDim]);
  return {
    stream: {
      ...streamOf(stream, 1, () => mulDims(stream.groups, 'seq'), addDims('past', 'seq')),
      cache: {
        past: (layer) => ({ k: cached(`past.k.${layer}`), v: cached(`past.v.${layer}`) }),
        present: (layer, added) => {
          present[layer] = added;
          return added;
        },
      },
    },
    present,
  };
}

function streamOf(
  { windows, ropes, types, distances, neighbours }: StreamSpec,
  batch: Dim,
  queries: (window: number | null) => Dim,
  keys: Dim,
): Stream {
  return {
    ids: input('ids', 'int32', ['batch', 'seq']),
    positions: input('positions', 'int64', ['batch', 'seq']),
    ...(distances && { distances: input(DISTANCES, 'int32', ['seq', 'seq']) }),
    ...(neighbours && { neighbours: input(NEIGHBOURS, 'int32', ['batch', 'seq', neighbours]) }),
    ...(types > 0 && { typeIds: input(TYPE_IDS, 'int32', ['batch', 'seq']) }),
    masks: windows.map((window, i) =>
      input(tableName('mask', i), 'float32', [batch, 1, queries(window), keys]),
    ),
    rotaries: ropes.map(({ dim }, i) => ({
      cos: input(tableName('cos', i), 'float32', ['table', dim / 2]),
      sin: input(tableName('sin', i), 'float32', ['table', dim / 2]),
    })),
  };
}
