import { decoderArchitecture, qwenWindows } from './config.js';

/** Qwen2 and Qwen2.5: Llama with biases on q, k and v. */
export const qwen2 = decoderArchitecture(
  'qwen2',
  (raw, place) => ({
    bias: { qkv: true, o: false, mlp: false },
    attention: qwenWindows(place, raw),
  }),
  { name: 'qwen2', className: 'Qwen2ForCausalLM' },
);
