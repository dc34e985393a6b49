/** Inputs of a graph in a file, whose users feed token ids and what of them is padding: masks and tables are made inside. */
import { addDims, type Dim, mulDims, type Shape } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { f32, type HostTensor } from '../base/tensor.js';
import {
  add,
  atMost,
  concat,
  constant,
  convert,
  cos,
  cumulativeSum,
  dimension,
  expandTo,
  gather,
  input,
  mul,
  range,
  relu,
  reshape,
  scalar,
  sin,
  split,
  sub,
  where,
} from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Distances, LanguageModel, Network, StreamSpec } from './architecture.js';
import { distanceScale } from './distances.js';
import { HIDDEN } from './masks.js';
import type { KeyValue, RopeConfig, Stream } from './model.js';
import { inverseFrequencies, lengthsLike } from './rope.js';

/** Sizes by the names that transformers.js goes by: it makes the empty cache of `batch_size` rows and 0 of any other name. */
const BATCH = 'batch_size';
const SEQ = 'sequence_length';
const PAST = 'past_sequence_length';
/** Of a decoder's attention mask: past positions, then new ones. */
const TOTAL = addDims(PAST, SEQ);

export const INPUT_IDS = 'input_ids';
export const ATTENTION_MASK = 'attention_mask';
export const TOKEN_TYPE_IDS = 'token_type_ids';

/**
 * The stream of an encoder, and 1 for tokens, 0 for padding, float32 [batch, seq]. It is over input_ids, attention_mask and, where there are types to choose from, token_type_ids: int64
 * [batch, seq], 1 in the mask for tokens and 0 for padding, on either side. Throws UserError where the network has tables that
 * are made on the host alone.
 */
export function encoderStream({ stream: spec }: Network): { stream: Stream; real: Tensor } {
  const { ids, real } = tokens(SEQ);
  const columns = range(SEQ);
  const stream: Stream = {
    ids,
    positions: encoderPositions(spec, ids, columns),
    ...typesOf(spec, ids),
    masks: spec.windows.map((window) => mutualMask(real, columns, window)),
    rotaries: spec.ropes.map((rope) => rotaryTable(rope, reshape(columns, [SEQ, 1]), dimension(SEQ))),
    ...(spec.distances && { distances: distanceTable(spec.distances, columns) }),
    ...(spec.neighbours && { neighbours: neighbourTable(spec.neighbours, real, columns) }),
  };
  return { stream, real };
}

/**
 * The stream of a decoder over input_ids, int64 [batch, seq], attention_mask, int64 [batch, past + seq] with 0 for padding, and
 * past_key_values.N.key and .value, [batch, kvHeads, past, headDim]; `present` has what these become, [batch, kvHeads, past +
 * seq, headDim]. A token's position is the number of tokens before it, padding aside.
 */
export function decoderStream({ stream: spec, cache }: Pick<LanguageModel, 'stream' | 'cache'>): {
  stream: Stream;
  present: KeyValue[];
} {
  const { ids, real } = tokens(TOTAL);
  const kept = (layer: number, part: string) =>
    input(`past_key_values.${layer}.${part}`, 'float32', [BATCH, cache.kvHeads, PAST, cache.headDim]);
  const past = Array.from(
    { length: cache.layers },
    (_, i): KeyValue => ({ k: kept(i, 'key'), v: kept(i, 'value') }),
  );
  const columns = range(TOTAL);
  const queries = lastOf(columns, 0);
  const positions = lastOf(relu(sub(cumulativeSum(real), scalar(1))), 1);
  const present: KeyValue[] = [];
  return {
    stream: {
      ids,
      // Rotary tables have a row for each token, learned positions one for each place.
      positions:
        spec.ropes.length > 0
          ? convert(reshape(range(mulDims(BATCH, SEQ)), [BATCH, SEQ]), 'int64')
          : convert(positions, 'int64'),
      ...typesOf(spec, ids),
      masks: spec.windows.map((window) => causalMask(spec.groups, real, columns, queries, window)),
      rotaries: spec.ropes.map((rope) =>
        rotaryTable(rope, reshape(positions, [mulDims(BATCH, SEQ), 1]), dimension(TOTAL)),
      ),
      cache: {
        past: () => undefined,
        present: (layer, { k, v }) => {
          const joined = { k: concat([past[layer].k, k], 2), v: concat([past[layer].v, v], 2) };
          present[layer] = joined;
          return joined;
        },
      },
    },
    present,
  };
}

/** Token ids, and 1 or 0 in float32 for what is a token and what is padding. */
function tokens(keys: Dim): { ids: Tensor; real: Tensor } {
  const ids = input(INPUT_IDS, 'int64', [BATCH, SEQ]);
  return { ids, real: convert(input(ATTENTION_MASK, 'int64', [BATCH, keys]), 'float32') };
}

/** Of one type only, nobody says which. */
function typesOf({ types }: StreamSpec, ids: Tensor): { typeIds?: Tensor } {
  if (types === 0) return {};
  const typeIds =
    types > 1
      ? input(TOKEN_TYPE_IDS, 'int64', [BATCH, SEQ])
      : expandTo(constant({ dtype: 'int64', dims: [1], data: BigInt64Array.of(0n) }), ids);
  return { typeIds };
}

/** What belongs to the new tokens, of all along an axis. */
function lastOf(x: Tensor, axis: number): Tensor {
  return split(x, axis, [PAST, SEQ])[1];
}

/** Places in the row; of RoBERTa counted from behind the padding token's id, past the tokens that are it. */
function encoderPositions({ firstPosition }: StreamSpec, ids: Tensor, columns: Tensor): Tensor {
  if (!firstPosition) return convert(expandTo(reshape(columns, [1, SEQ]), ids), 'int64');
  const padding = scalar(firstPosition - 1);
  const away = sub(convert(ids, 'float32'), padding);
  const real = where(atMost(mul(away, away), scalar(0)), scalar(0), scalar(1));
  return convert(add(mul(cumulativeSum(real), real), padding), 'int64');
}

/** [batch, 1, 1, keys]: added to the scores of keys. */
function paddingMask(real: Tensor): Tensor {
  const [batch, keys] = real.shape;
  return reshape(mul(sub(scalar(1), real), scalar(HIDDEN)), [batch, 1, 1, keys]);
}

function mutualMask(real: Tensor, columns: Tensor, window: number | null): Tensor {
  if (window === null) return paddingMask(real);
  const between = sub(reshape(columns, [SEQ, 1]), columns);
  return where(atMost(mul(between, between), scalar((window - 1) ** 2)), paddingMask(real), scalar(HIDDEN));
}

/** [batch, 1, groups·seq, keys], as `attend` stacks the query heads that share a key head. */
function causalMask(
  groups: number,
  real: Tensor,
  keys: Tensor,
  queries: Tensor,
  window: number | null,
): Tensor {
  const rows = reshape(queries, [SEQ, 1]);
  let mask = where(atMost(keys, rows), paddingMask(real), scalar(HIDDEN));
  if (window !== null) mask = where(atMost(sub(rows, keys), scalar(window - 1)), mask, scalar(HIDDEN));
  if (groups === 1) return mask;
  const each = constant(f32(new Float32Array(groups), [1, 1, groups, 1, 1]));
  const stacked = add(reshape(mask, [BATCH, 1, 1, SEQ, TOTAL]), each);
  return reshape(stacked, [BATCH, 1, mulDims(groups, SEQ), TOTAL]);
}

/** cos and sin, [n, dim/2], for positions [n, 1] of sequences of `length`, a scalar. */
function rotaryTable(rope: RopeConfig, positions: Tensor, length: Tensor): { cos: Tensor; sin: Tensor } {
  const { scaling } = rope;
  const angles = mul(positions, frequencies(rope, length));
  if (!('attentionFactor' in scaling) || scaling.attentionFactor === 1)
    return { cos: cos(angles), sin: sin(angles) };
  const factor = scalar(scaling.attentionFactor);
  return { cos: mul(cos(angles), factor), sin: mul(sin(angles), factor) };
}

/** Those of short sequences and of long ones, where there are two. */
function frequencies(rope: RopeConfig, length: Tensor): Tensor {
  const of = (n: number) => constant(f32(inverseFrequencies(rope, n), [1, rope.dim / 2]));
  const [, last] = lengthsLike(rope, 1);
  if (last === Number.POSITIVE_INFINITY) return of(1);
  if (lengthsLike(rope, last + 1)[1] !== Number.POSITIVE_INFINITY) {
    throw new UserError(
      `rotary embeddings of type "${rope.scaling.type}" have other frequencies at every length, and cannot be exported`,
    );
  }
  return where(atMost(length, scalar(last)), of(1), of(last + 1));
}

/** int32 [seq, seq]: looked up by the distance, beyond which all share an index. */
function distanceTable(distances: Distances, columns: Tensor): Tensor {
  const indices = distanceScale(distances);
  const most = (indices.length - 1) / 2;
  const between = sub(reshape(columns, [SEQ, 1]), columns);
  const place = sub(relu(add(between, scalar(most))), relu(sub(between, scalar(most))));
  const table: HostTensor = { dtype: 'int32', dims: [indices.length], data: indices };
  return gather(constant(table), convert(place, 'int64'));
}

/** int64 [batch, seq, width]: rows of [batch·seq, …] around each position; batch·seq where there is none. */
function neighbourTable(width: number, real: Tensor, columns: Tensor): Tensor {
  const half = (width - 1) / 2;
  const offsets = constant(
    f32(
      Float32Array.from({ length: width }, (_, i) => i - half),
      [1, width],
    ),
  );
  const place = add(reshape(columns, [SEQ, 1]), offsets);
  const last = sub(dimension(SEQ), scalar(1));
  const inside = sub(relu(place), relu(sub(place, last)));
  const shape: Shape = [BATCH, SEQ, width];
  const row = mul(reshape(range(BATCH), [BATCH, 1, 1]), dimension(SEQ));
  const other = add(row, reshape(inside, [1, SEQ, width]));
  const away = reshape(sub(place, inside), [1, SEQ, width]);
  const isReal = gather(reshape(real, [mulDims(BATCH, SEQ)]), convert(other, 'int64'));
  const none = dimension(mulDims(BATCH, SEQ));
  const seen = where(atMost(mul(away, away), scalar(0)), where(atMost(scalar(1), isReal), other, none), none);
  return convert(reshape(seen, shape), 'int64');
}
