import { activationOf } from './blocks/activation.js';
import { decoderArchitecture, windowed } from './config.js';
import { gemmaTraits } from './gemma.js';

/** Gemma 2: norms before and behind, every second layer with a window, scores and logits bounded by tanh. */
export const gemma2 = decoderArchitecture('gemma2', (raw, place) => ({
  ...gemmaTraits(raw),
  norms: 'both',
  activation: activationOf(place, 'hidden_activation', raw.hidden_activation!),
  attention: windowed(place, raw, raw.sliding_window ?? null, (layer) => layer % 2 === 0),
  softcaps: {
    attention: raw.attn_logit_softcapping ?? null,
    logits: raw.final_logit_softcapping ?? null,
  },
}));
