import { type Dim, factorsOf } from '../base/dims.js';
import { Rng } from '../base/rng.js';
import type { CompiledGraph } from '../graph/emit.js';
import { fixed } from '../graph/op.js';
import type { Feeds } from '../graph/runtime/session.js';
import type { AdaptedSites } from '../methods/adapter.js';
import type { MicroBatch } from './data/batches.js';

/** Names the masks of one micro-batch: equal keys give equal masks, so a resumed run repeats them. */
export interface DropoutKey {
  seed: number;
  step: number;
  micro: number;
}

/** Random masks for the sites whose method drops elements of its input. */
export class DropoutMasks {
  private readonly masks: readonly { name: string; rows: Dim; width: number; threshold: number }[];

  constructor(inputs: CompiledGraph['inputs'], dropout: AdaptedSites['dropout']) {
    this.masks = inputs.flatMap(({ name, shape }) => {
      const probability = dropout.get(name);
      if (probability === undefined) return [];
      return [
        {
          name,
          rows: shape[0],
          width: fixed(shape[1], 'a masked width'),
          threshold: Math.round(probability * 2 ** 16),
        },
      ];
    });
  }

  feeds({ rows: batch, length: seq }: Pick<MicroBatch, 'rows' | 'length'>, key: DropoutKey): Feeds {
    const feeds: Feeds = {};
    const sizes: Readonly<Record<string, number>> = { batch, seq };
    for (const { name, rows: dim, width, threshold } of this.masks) {
      const { factor, names } = factorsOf(dim);
      const rows = names.reduce((product, size) => product * sizes[size], factor);
      const data = new Uint8Array(rows * width);
      fillMask(data, threshold, new Rng(key.seed, `${name} ${key.step} ${key.micro}`));
      feeds[name] = { dtype: 'bool', dims: [rows, width], data };
    }
    return feeds;
  }
}

/**
 * Ones with probability 1 - threshold/2¹⁶. Philox seeds a small fast generator (sfc32), since a step needs tens of
 * millions of draws, two to a word.
 */
function fillMask(mask: Uint8Array, threshold: number, rng: Rng): void {
  let [a, b, c, d] = [rng.uint32() | 0, rng.uint32() | 0, rng.uint32() | 0, 1];
  for (let i = -24; i < mask.length; i += 2) {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    if (i < 0) continue;
    mask[i] = (t & 0xffff) >= threshold ? 1 : 0;
    if (i + 1 < mask.length) mask[i + 1] = t >>> 16 >= threshold ? 1 : 0;
  }
}
