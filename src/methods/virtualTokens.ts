/** What the methods share that put trained positions before a sequence. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { TargetRows } from '../models/feeds.js';
import type { Adapter } from './adapter.js';

export const virtualTokens = z
  .int()
  .positive()
  .max(4096)
  .default(20)
  .describe('prefix, prompt: trained positions before every sequence');

/** Keys of PEFT's adapter_config.json for them; what is null PEFT takes from the model. */
export function promptKeys(tokens: number): Record<string, unknown> {
  return {
    auto_mapping: null,
    inference_mode: true,
    num_attention_heads: null,
    num_layers: null,
    num_transformer_submodules: null,
    num_virtual_tokens: tokens,
    peft_version: '0.21.2',
    revision: null,
    task_type: 'CAUSAL_LM',
    token_dim: null,
  };
}

/**
 * The options behind PEFT's keys. Throws UserError, prefixed with `place`, for what changes what the adapter computes and
 * is not implemented.
 */
export function optionsOf(place: string, keys: Record<string, unknown>): Record<string, unknown> {
  const { num_virtual_tokens, num_transformer_submodules: submodules, modules_to_save: saved } = keys;
  if (submodules !== undefined && submodules !== null && submodules !== 1) {
    throw new UserError(
      `${place}: num_transformer_submodules ${JSON.stringify(submodules)} is not implemented`,
    );
  }
  if (Array.isArray(saved) && saved.length > 0) {
    throw new UserError(`${place}: modules_to_save ${JSON.stringify(saved)} is not implemented here`);
  }
  return { num_virtual_tokens };
}

/** Graph inputs, of the shape of the ids: a position's virtual token, or how many there are; whether it is a real one. */
export const VIRTUAL = 'virtualTokens';
export const REAL = 'realTokens';

/** Virtual tokens that an adapter puts before every sequence, as tokens. */
export function virtualCount(adapter: Adapter | undefined): number {
  return adapter?.method.virtualTokens?.(adapter.config) ?? 0;
}

/** The feeds of rows that begin with `count` virtual tokens each, where their columns say so; none without any. */
export function virtualFeeds(count: number, rows: number, columns: Int32Array): Feeds {
  if (count === 0) return {};
  const dims = [rows, columns.length / rows];
  const real = Uint8Array.from(columns, (at) => Number(at === count));
  return {
    [VIRTUAL]: { dtype: 'int32', dims, data: columns },
    [REAL]: { dtype: 'bool', dims: [...dims, 1], data: real },
  };
}

/** The same rows with `count` virtual tokens before each example, and which position is which (see VIRTUAL). */
export function withVirtualTokens(
  micro: TargetRows,
  count: number,
): { micro: TargetRows; columns: Int32Array } {
  if (count === 0) return { micro, columns: new Int32Array(0) };
  const { rows, length, starts, lengths, typeIds } = micro;
  const isStart = (at: number, column: number) => (starts ? starts[at] === column : column === 0);
  // Where each position goes, row by row.
  const moved = new Int32Array(rows * length);
  const wholes = new Int32Array(rows);
  let longest = 0;
  for (let row = 0; row < rows; row++) {
    let column = 0;
    for (let i = 0; i < length; i++) {
      if (i < lengths[row] && isStart(row * length + i, i)) column += count;
      moved[row * length + i] = column++;
      if (i < lengths[row]) wholes[row] = column;
    }
    longest = Math.max(longest, column);
  }
  const ids = new Int32Array(rows * longest);
  // Virtual tokens are of the first type, as in PEFT.
  const types = new Int32Array(rows * longest);
  const columns = new Int32Array(rows * longest).fill(count);
  const begins = Int32Array.from({ length: rows * longest }, (_, at) => at % longest);
  for (let row = 0; row < rows; row++) {
    let begin = 0;
    for (let i = 0; i < length; i++) {
      const at = row * length + i;
      ids[row * longest + moved[at]] = micro.ids[at];
      if (typeIds) types[row * longest + moved[at]] = typeIds[at];
      if (i >= lengths[row]) continue;
      if (isStart(at, i)) {
        begin = moved[at] - count;
        for (let k = 0; k < count; k++) columns[row * longest + begin + k] = k;
        begins.fill(begin, row * longest + begin, row * longest + moved[at]);
      }
      begins[row * longest + moved[at]] = begin;
    }
  }
  const targetRows = micro.targetRows.map((at) => Math.floor(at / length) * longest + moved[at]);
  const wider = {
    ...micro,
    length: longest,
    ids,
    lengths: wholes,
    targetRows,
    ...(typeIds && { typeIds: types }),
  };
  return { micro: starts ? { ...wider, starts: begins } : wider, columns };
}
