import { decoderArchitecture } from './config.js';

/** OLMo 2: norms behind attention and MLP instead of before, and over all of q and of k. */
export const olmo2 = decoderArchitecture('olmo2', ({ attention_bias = false }) => ({
  bias: { qkv: attention_bias, o: attention_bias, mlp: false },
  qkNorm: 'all',
  norms: 'behind',
}));
