import { UserError } from '../base/errors.js';
import { decoderArchitecture } from './config.js';

/** Qwen3 (dense): Llama with RMSNorm on each head of q and k. */
export const qwen3 = decoderArchitecture('qwen3', (raw) => {
  if (raw.use_sliding_window) {
    throw new UserError(
      'config.json: key "use_sliding_window": windows on some layers only are not supported',
    );
  }
  const { attention_bias } = raw;
  return { bias: { qkv: attention_bias, o: attention_bias, mlp: false }, qkNorm: true, slidingWindow: null };
});
