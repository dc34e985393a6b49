/** Weights that another program quantized: said by their configuration, and not read. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';

const schema = z.looseObject({
  quantization_config: z.looseObject({ quant_method: z.string().optional() }).nullish(),
  /** mlx's key. */
  quantization: z.unknown().optional(),
});

/** What people call the methods of `quantization_config`. */
const METHODS: Readonly<Record<string, string>> = {
  bitsandbytes: 'bitsandbytes',
  gptq: 'GPTQ',
  awq: 'AWQ',
};

/** Throws UserError where a config.json tells of weights that were quantized elsewhere. */
export function refuseForeignWeights(place: string, config: unknown): void {
  const { quantization_config: theirs, quantization } = checkJson(place, config, schema);
  const isMlx = quantization !== undefined && quantization !== null;
  if (!theirs && !isMlx) return;
  const key = isMlx ? 'quantization' : 'quantization_config';
  const method = theirs?.quant_method ?? '';
  const by = isMlx ? 'mlx' : (METHODS[method] ?? (method || 'another program'));
  throw new UserError(
    `${place}: key "${key}": the weights were quantized by ${by}, which is not read; take the model that they were ` +
      'made from, and quantize it with --base nf4, int4 or int8 if memory is short',
  );
}
