import { snakeCase } from '../base/names.js';

/**
 * Configurations may say `loraAlpha` or PEFT's `lora_alpha`: this turns top-level keys to the latter. A key that is null is
 * as one that is not there, as in PEFT.
 */
export function snakeKeys(config: unknown): unknown {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return config;
  const given = Object.entries(config).filter(([, value]) => value !== null);
  return Object.fromEntries(given.map(([key, value]) => [snakeCase(key), value]));
}
