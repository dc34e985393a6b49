import { expect, it } from 'vitest';
import { tableWithin } from './methods.js';

const rows = [
  ['method', 'name', 'trains', 'at inference', 'merges', 'in PEFT'],
  ['lora', 'LoRA', 'r·(in + out) a target', 'two products of rank r a target', 'yes', 'LORA'],
];

it('leaves out what a terminal has no room for, and says so', () => {
  expect(tableWithin(rows).left).toEqual([]);
  for (const columns of [100, 80, 60, 50, 40, 30]) {
    const { lines, left } = tableWithin(rows, columns);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(lines[0].split(/ {2,}/)).toEqual(rows[0].filter((name) => !left.includes(name)));
  }
  expect(tableWithin(rows, 80).left).toEqual(['at inference']);
  expect(tableWithin(rows, 40).left).toEqual(['trains', 'at inference']);
});
