import { activationOf } from './blocks/activation.js';
import { decoderArchitecture, windowed } from './config.js';
import { gemmaGguf, gemmaScale, gemmaTraits, gemmaWindow } from './gemma.js';
import { layerTypes } from './gguf/decoder.js';

/** Gemma 2: norms before and behind, every second layer with a window, scores and logits bounded by tanh. */
export const gemma2 = decoderArchitecture(
  'gemma2',
  (raw, place) => ({
    ...gemmaTraits(raw),
    norms: 'both',
    activation: activationOf(place, 'hidden_activation', raw.hidden_activation!),
    attention: windowed(place, raw, raw.sliding_window ?? null, (layer) => layer % 2 === 0),
    softcaps: {
      attention: raw.attn_logit_softcapping ?? null,
      logits: raw.final_logit_softcapping ?? null,
    },
  }),
  {
    ...gemmaGguf,
    name: 'gemma2',
    className: 'Gemma2ForCausalLM',
    head: 'tied',
    hasWindows: true,
    keys: [
      gemmaWindow(4096),
      {
        key: 'attn_logit_softcapping',
        hf: 'attn_logit_softcapping',
        type: 'float32',
        value: (c) => c.softcaps.attention,
        absent: () => 50,
      },
      {
        key: 'final_logit_softcapping',
        hf: 'final_logit_softcapping',
        type: 'float32',
        value: (c) => c.softcaps.logits,
        absent: () => 30,
      },
    ],
    rest: (file, read) => ({
      query_pre_attn_scalar: gemmaScale(46)(read),
      layer_types: layerTypes(file, Number(read.num_hidden_layers), 2),
    }),
  },
);
