import { describe, expect, it } from 'vitest';
import { camelCase, kebabCase, snakeCase } from './names.js';

describe('spellings of an option', () => {
  it.each([
    ['r', 'r', 'r'],
    ['loraAlpha', 'lora_alpha', 'lora-alpha'],
    ['adamBeta1', 'adam_beta1', 'adam-beta1'],
    ['useRslora', 'use_rslora', 'use-rslora'],
  ])('%s, %s, %s', (camel, snake, kebab) => {
    for (const spelling of [camel, snake, kebab]) {
      expect([camelCase(spelling), snakeCase(spelling), kebabCase(spelling)]).toEqual([camel, snake, kebab]);
    }
  });
});
