/** What the methods share that put trained positions before a sequence. */
import * as z from 'zod';

export const virtualTokens = z
  .int()
  .positive()
  .max(4096)
  .default(20)
  .describe('prefix: trained positions before every sequence');

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
