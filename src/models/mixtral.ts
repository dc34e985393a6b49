import { decoderArchitecture, mixtureOf } from './config.js';
import { EXPERT_KEYS } from './gguf/decoder.js';
import { llamaGguf } from './llama.js';

const NAMES = { block: 'block_sparse_moe', gate: 'w1', up: 'w3', down: 'w2' };

/** Mixtral: Mistral with experts in the place of the MLP. */
export const mixtral = decoderArchitecture(
  'mixtral',
  (raw, place) => {
    const { num_hidden_layers: length, intermediate_size: inner, sliding_window: window = null } = raw;
    const experts = mixtureOf(place, raw, { inner, normalized: true, names: NAMES });
    return {
      mixtures: Array.from({ length }, () => experts),
      attention: Array.from({ length }, () => ({ window, rope: 0 })),
    };
  },
  {
    ...llamaGguf,
    className: 'MixtralForCausalLM',
    mayHaveBiases: false,
    hasExperts: true,
    keys: EXPERT_KEYS,
  },
);
