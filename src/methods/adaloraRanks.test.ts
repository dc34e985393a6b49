import { describe, expect, it } from 'vitest';
import { f32 } from '../base/tensor.js';
import { allocate, budgetAt, rankTable, updateImportance } from './adaloraRanks.js';
import type { MethodState } from './method.js';

describe('the budget', () => {
  it('stays, falls with the cube of the time left, and stays', () => {
    const at = (step: number) => budgetAt({ tinit: 10 }, step, 90, 1000, 200);
    expect([0, 10].map(at)).toEqual([1000, 1000]);
    expect(at(50)).toBe(800 / 8 + 200);
    expect(at(89)).toBe(200);
    expect([90, 100].map(at)).toEqual([200, 200]);
  });
});

describe('importance', () => {
  const schedule = { targetR: 1, tinit: 0, deltaT: 1, beta1: 0.5, beta2: 0.75 };
  const tensors = (value: (part: string, i: number) => number) =>
    new Map(
      ['A', 'E', 'B'].map((part) => {
        const dims = part === 'A' ? [2, 3] : part === 'E' ? [2, 1] : [4, 2];
        const size = dims[0] * dims[1];
        const data = Float32Array.from({ length: size }, (_, i) => value(part, i));
        return [`q.adalora_${part}`, f32(data, dims)] as const;
      }),
    );

  it('averages |w·g| and how far it is from that', () => {
    const state: MethodState = { tensors: new Map(), values: {} };
    const step = (g: number) =>
      updateImportance(
        schedule,
        tensors(() => 2),
        tensors(() => g),
        0.5,
        state,
      );
    step(-4);
    expect(state.tensors.get('q.adalora_E.sensitivity')!.data[1]).toBe(0.5 * 4);
    expect(state.tensors.get('q.adalora_E.uncertainty')!.data[1]).toBe(0.25 * 2);
    step(8);
    expect(state.tensors.get('q.adalora_E.sensitivity')!.data[1]).toBe(0.5 * 2 + 0.5 * 8);
    expect(state.tensors.get('q.adalora_E.uncertainty')!.data[1]).toBe(0.75 * 0.5 + 0.25 * 3);
  });

  it('prunes the triplet that matters less, by its column of P alone if need be', () => {
    const state: MethodState = { tensors: new Map(), values: {} };
    const values = tensors(() => 1);
    updateImportance(
      schedule,
      values,
      tensors((part, i) => (part === 'B' && i === 5 ? 3 : 1)),
      1,
      state,
    );
    expect(allocate(schedule, { step: 4, end: 5 }, values, state)).toEqual({ q: [false, true] });
    expect([...values.get('q.adalora_E')!.data]).toEqual([0, 1]);
    expect(allocate({ ...schedule, deltaT: 3 }, { step: 4, end: 5 }, values, state)).toBeUndefined();
    expect(allocate({ ...schedule, tinit: 4 }, { step: 4, end: 5 }, values, state)).toBeUndefined();
  });
});

it('ranks are told by layer and module', () => {
  const ranks = new Map([
    ['model.layers.0.self_attn.q_proj', 3],
    ['model.layers.0.mlp.up_proj', 0],
    ['model.layers.10.self_attn.q_proj', 1],
    ['lm_head', 2],
  ]);
  expect(rankTable(ranks)).toEqual([
    ['layer', 'q_proj', 'up_proj', 'lm_head', 'ranks'],
    ['0', 3, 0, '', 3],
    ['10', 1, '', '', 1],
    ['', '', '', 2, 2],
  ]);
});
