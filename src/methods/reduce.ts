import { UserError } from '../base/errors.js';
import { energy, matrix } from '../base/linalg/matrix.js';
import { productSvd } from '../base/linalg/svd.js';
import type { AdapterFiles, AdapterTensor } from '../formats/peft.js';
import { kindName, scalingOf } from '../formats/peftConfig.js';
import { adapterKey, adapterSites } from '../formats/peftNames.js';
import {
  capturedBy,
  factorsOf,
  rankFor,
  ranksConfig,
  type TruncatedLayer,
  type Truncation,
} from './truncate.js';

/**
 * A LoRA adapter with lower ranks: for each layer the best of that rank, by the SVD of s·B·A, which is never formed.
 * Yields each layer when it is done. `place` names the adapter. Throws UserError where it is not a plain LoRA.
 */
export function* reduceRanks(
  place: string,
  { config, tensors }: AdapterFiles,
  truncation: Truncation,
): Generator<TruncatedLayer & { done: number; of: number }, AdapterFiles, void> {
  if (config.peft_type !== 'LORA' || config.use_dora) {
    throw new UserError(
      `${place} is a ${kindName(config)} adapter, and only the ranks of plain LoRA are lowered`,
    );
  }
  const reduced = new Map<string, AdapterTensor>();
  const ranks = new Map<string, number>();
  const sites = adapterSites(tensors);
  for (const [i, site] of sites.entries()) {
    const [a, b] = (['lora_A', 'lora_B'] as const).map((part) => tensors.get(adapterKey(site, part)));
    if (!a || !b) throw new UserError(`${place}: ${site} is an embedding, whose rank is not lowered`);
    const scale = scalingOf(config, site);
    const [rank, width] = a.shape;
    const scaled = b.data.map((x) => x * scale);
    const svd = productSvd(matrix(b.shape[0], rank, scaled), matrix(rank, width, a.data));
    const total = energy(svd.s);
    const r = rankFor(svd.s, total, truncation);
    const factors = factorsOf(svd, r);
    reduced.set(adapterKey(site, 'lora_A'), factors.a).set(adapterKey(site, 'lora_B'), factors.b);
    ranks.set(site, r);
    const captured = capturedBy(svd.s, total, r);
    yield {
      site,
      out: b.shape[0],
      in: width,
      r,
      norm: Math.sqrt(total),
      captured,
      done: i + 1,
      of: sites.length,
    };
  }
  for (const [key, tensor] of tensors) {
    if (key.endsWith('.lora_bias')) {
      const scale = scalingOf(config, key.slice(0, -'.lora_bias'.length));
      reduced.set(key, { ...tensor, data: tensor.data.map((x) => x * scale) });
    } else if (!/\.lora_[AB]$/.test(key)) reduced.set(key, tensor);
  }
  return { config: { ...config, ...ranksConfig(ranks), use_rslora: false }, tensors: reduced };
}
