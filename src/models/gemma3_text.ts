import { UserError } from '../base/errors.js';
import { activationOf } from './blocks/activation.js';
import { decoderArchitecture, type RawConfig, windowed } from './config.js';
import { gemmaGguf, gemmaScale, gemmaTraits, gemmaWindow } from './gemma.js';
import { layerTypes } from './gguf/decoder.js';
import type { RopeConfig } from './model.js';
import { type RopeParameters, ropeOf } from './ropeConfig.js';

/** What the rotary embedding of windows turns by, where config.json does not say. */
const LOCAL_THETA = 10_000;
const [FULL, SLIDING] = [0, 1];

/** Gemma 3, the text model: as Gemma 2 without bounds, with q and k normed by head, and a rotary embedding of its own for windows. */
export const gemma3_text = decoderArchitecture(
  'gemma3_text',
  (raw, place, { headDim }) => {
    if (raw.use_bidirectional_attention) {
      throw new UserError(
        `${place}: key "use_bidirectional_attention": such a model is an encoder, and not supported`,
      );
    }
    const pattern = raw.sliding_window_pattern ?? 6;
    const layers = windowed(place, raw, raw.sliding_window ?? null, (layer) => (layer + 1) % pattern !== 0);
    return {
      ...gemmaTraits(raw),
      qkNorm: 'head',
      norms: 'both',
      activation: activationOf(place, 'hidden_activation', raw.hidden_activation!),
      ropes: ropesOf(place, raw, headDim),
      attention: layers.map(({ sliding, window }) => ({ window, rope: sliding ? SLIDING : FULL })),
      softcaps: {
        attention: raw.attn_logit_softcapping ?? null,
        logits: raw.final_logit_softcapping ?? null,
      },
    };
  },
  {
    ...gemmaGguf,
    name: 'gemma3',
    className: 'Gemma3ForCausalLM',
    hasWindows: true,
    keys: [
      gemmaWindow(null),
      {
        key: 'rope.freq_base_swa',
        hf: 'rope_local_base_freq',
        type: 'float32',
        value: (c) => c.ropes[SLIDING].theta,
        absent: () => LOCAL_THETA,
      },
      {
        key: 'final_logit_softcapping',
        hf: 'final_logit_softcapping',
        type: 'float32',
        value: (c) => c.softcaps.logits,
        absent: () => null,
      },
    ],
    rest(file, read) {
      const layers = Number(read.num_hidden_layers);
      return {
        query_pre_attn_scalar: gemmaScale(62)(read),
        // Without a window its period is one layer, and that sees all.
        layer_types: layerTypes(file, layers, read.sliding_window === null ? 1 : 6),
      };
    },
  },
);

/** That of all positions, and that of windows: in `rope_parameters` by kind of layer, or by the keys of before. */
function ropesOf(place: string, raw: RawConfig, headDim: number): RopeConfig[] {
  const kinds = raw.rope_parameters ?? {};
  const defaults = (theta: number) => ({
    rope_theta: theta,
    max_position_embeddings: raw.max_position_embeddings,
  });
  const given = (kind: 'full_attention' | 'sliding_attention') => (kinds[kind] ?? {}) as RopeParameters;
  const full = { ...given('full_attention'), ...raw.rope_scaling };
  const beside = { partial_rotary_factor: raw.partial_rotary_factor };
  const at = (kind: string) => `${place}: key "rope_parameters.${kind}`;
  return [
    ropeOf(at('full_attention'), full, beside, defaults(raw.rope_theta), headDim),
    ropeOf(
      at('sliding_attention'),
      given('sliding_attention'),
      beside,
      defaults(raw.rope_local_base_freq ?? LOCAL_THETA),
      headDim,
    ),
  ];
}
