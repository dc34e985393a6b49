import type { F32Tensor } from '../../src/base/tensor.js';
import type { Adapter } from '../../src/methods/adapter.js';

// The adapter that scripts/parity/live_smollm2.py calls FORMULA_ADAPTER: exact in any language, so that the
// committed golden needs no copy of it.

const MODULES = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
];
const AMPLITUDE = { lora_A: 2 ** -5, lora_B: 2 ** -4 };

/** Trainable names in the golden's order: layer by layer, module by module, A before B. */
export function formulaNames(layers: number): string[] {
  return Array.from({ length: layers }, (_, layer) =>
    MODULES.flatMap((module) =>
      ['lora_A', 'lora_B'].map((part) => `model.layers.${layer}.${module}.${part}`),
    ),
  ).flat();
}

/** Puts the formula's values into an all-linear LoRA adapter. */
export function fillByFormula(adapter: Adapter, layers: number): void {
  for (const [number, name] of formulaNames(layers).entries()) {
    fill(adapter.values.get(name)!, number, name.endsWith('A') ? AMPLITUDE.lora_A : AMPLITUDE.lora_B);
  }
}

function fill({ data }: F32Tensor, tensor: number, amplitude: number): void {
  const salt = Math.imul(tensor, 0x9e3779b9);
  for (let i = 0; i < data.length; i++) data[i] = (hash32(i ^ salt) - 2 ** 31) * (amplitude * 2 ** -31);
}

/** The integer hash "lowbias32". */
function hash32(x: number): number {
  let h = x;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  h ^= h >>> 16;
  return h >>> 0;
}
