import { expect, it } from 'vitest';
import type { Adapter } from '../methods/adapter.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import type { ModelConfig } from '../models/model.js';
import { exampleLimit, templateHash } from './training.js';

const base = { config: { maxPositions: 100 } as ModelConfig };

/** As much of an adapter as the limit looks at. */
function adapterOf(name: MethodName, config: object): Adapter {
  const method = methodNamed(name);
  return {
    method,
    config: method.parse('c', config),
    trainables: [],
    values: new Map(),
  } as unknown as Adapter;
}

it('an example has as many tokens as there are positions', () => {
  expect(exampleLimit(base, undefined, undefined)).toBe(100);
  expect(exampleLimit(base, undefined, 100)).toBe(100);
  expect(() => exampleLimit(base, undefined, 101)).toThrow(
    "a maximum length of 101 is more than the model's 100 positions",
  );
});

it.each(['prefix', 'prompt'] as const)('the virtual tokens of %s take their part of them', (name) => {
  const adapter = adapterOf(name, { numVirtualTokens: 30 });
  expect(exampleLimit(base, adapter, undefined)).toBe(70);
  expect(exampleLimit(base, adapter, 70)).toBe(70);
  expect(() => exampleLimit(base, adapter, 71)).toThrow(
    "a maximum length of 71 behind the adapter's 30 virtual tokens is more than the model's 100 positions: at most 70 fit",
  );
  expect(() => exampleLimit(base, adapterOf(name, { numVirtualTokens: 99 }), undefined)).toThrow(
    "the adapter's 99 virtual tokens leave no room in the model's 100 positions",
  );
});

it('tells the chat templates of models apart, that for tools too', () => {
  const hash = (plain?: string, tools = plain) => templateHash({ chatTemplates: { plain, toolUse: tools } });
  expect(hash()).toBeNull();
  expect(hash('a')).toBe(hash('a'));
  expect(new Set([hash('a'), hash('b'), hash('a', 'b')]).size).toBe(3);
});
