import { UserError } from '../base/errors.js';
import { decoderArchitecture } from './config.js';

/** Qwen2 and Qwen2.5: Llama with biases on q, k and v. */
export const qwen2 = decoderArchitecture('qwen2', (raw) => {
  if (raw.use_sliding_window) {
    throw new UserError(
      'config.json: key "use_sliding_window": windows on some layers only are not supported',
    );
  }
  return { bias: { qkv: true, o: false, mlp: false }, qkNorm: false, slidingWindow: null };
});
