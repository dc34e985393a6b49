import { decoderArchitecture, qwenWindows } from './config.js';

/** Qwen3 (dense): Llama with RMSNorm on each head of q and k. */
export const qwen3 = decoderArchitecture(
  'qwen3',
  (raw, place) => {
    const { attention_bias = false } = raw;
    return {
      bias: { qkv: attention_bias, o: attention_bias, mlp: false },
      qkNorm: 'head',
      attention: qwenWindows(place, raw),
    };
  },
  { name: 'qwen3', className: 'Qwen3ForCausalLM' },
);
