/** Adapters that tokens call: which tokens of a row they take part in (Method.invocation). */
import { type F32Tensor, f32 } from '../base/tensor.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { TargetRows } from '../models/feeds.js';
import { ACTIVE, type Adapter } from './adapter.js';

/** The tokens that call an adapter; undefined where none need to. */
export function invocationOf(adapter: Adapter | undefined): readonly number[] | undefined {
  return adapter?.method.invocation?.(adapter.config);
}

/** Where the last occurrence of some tokens begins in others; −1 where there is none. */
export function lastOccurrence(tokens: readonly number[], ids: ArrayLike<number>): number {
  for (let at = ids.length - tokens.length; at >= 0; at--) {
    if (tokens.every((token, i) => ids[at + i] === token)) return at;
  }
  return -1;
}

/** The feed of so many tokens that take part from one on. */
export function activeFrom(start: number, count: number): F32Tensor {
  return f32(new Float32Array(count).fill(1, start), [count, 1]);
}

/** The feeds of rows without their last tokens, which are only targets. Each example is looked through by itself, with that token; none where no tokens call. */
export function invocationFeeds(
  adapter: Adapter | undefined,
  { rows, length, ids, lengths, targetRows, targetIds, starts }: TargetRows,
): Feeds {
  const tokens = invocationOf(adapter);
  if (!tokens) return {};
  const targets = new Map(Array.from(targetRows, (position, i) => [position, targetIds[i]]));
  const active = new Float32Array(rows * length);
  for (let row = 0; row < rows; row++) {
    const end = row * length + lengths[row];
    for (let from = row * length; from < end; ) {
      let to = from + 1;
      while (to < end && starts?.[to] === starts?.[from]) to++;
      const last = targets.get(to - 1);
      const example = [...ids.subarray(from, to), ...(last === undefined ? [] : [last])];
      const start = lastOccurrence(tokens, example);
      if (start >= 0) active.fill(1, from + start, to);
      from = to;
    }
  }
  return { [ACTIVE]: f32(active, [active.length, 1]) };
}
