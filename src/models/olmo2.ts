import { decoderArchitecture } from './config.js';

/** OLMo 2: norms behind attention and MLP instead of before, and over all of q and of k. */
export const olmo2 = decoderArchitecture(
  'olmo2',
  ({ attention_bias = false }) => ({
    bias: { qkv: attention_bias, o: attention_bias, mlp: false },
    qkNorm: 'all',
    norms: 'behind',
  }),
  {
    name: 'olmo2',
    className: 'Olmo2ForCausalLM',
    head: 'own',
    rest({ meta, name }) {
      if (meta.count(`${name}.attention.sliding_window`, 0) > 0)
        meta.fail('it has sliding windows, as OLMo 3 has, which are not converted');
      return {};
    },
  },
);
