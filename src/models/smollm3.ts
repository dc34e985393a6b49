import { UserError } from '../base/errors.js';
import { decoderArchitecture, windowed } from './config.js';

/** SmolLM3: Llama in which every few layers have no rotary embedding, and may have a window. */
export const smollm3 = decoderArchitecture(
  'smollm3',
  (raw, place) => {
    const { attention_bias = false, mlp_bias = false, no_rope_layer_interval: interval = 4 } = raw;
    const turns = (layer: number) =>
      raw.no_rope_layers ? raw.no_rope_layers[layer] !== 0 : (layer + 1) % interval !== 0;
    if (raw.no_rope_layers && raw.no_rope_layers.length !== raw.num_hidden_layers) {
      throw new UserError(
        `${place}: key "no_rope_layers" has ${raw.no_rope_layers.length} entries, and num_hidden_layers is ${raw.num_hidden_layers}`,
      );
    }
    const window = raw.use_sliding_window ? (raw.sliding_window ?? null) : null;
    const layers = windowed(place, raw, window, (layer) => window !== null && !turns(layer));
    return {
      bias: { qkv: attention_bias, o: attention_bias, mlp: mlp_bias },
      attention: layers.map((attention, layer) => ({ ...attention, rope: turns(layer) ? 0 : null })),
    };
  },
  { name: 'smollm3', className: 'SmolLM3ForCausalLM', isInterleaved: true, mayHaveBiases: true },
);
