import { snakeCase } from '../base/names.js';

/** Configurations may say `loraAlpha` or PEFT's `lora_alpha`: this turns top-level keys to the latter. */
export function snakeKeys(config: unknown): unknown {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return config;
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [snakeCase(key), value]));
}
