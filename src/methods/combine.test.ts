import { describe, expect, it } from 'vitest';
import { matrix, multiply, multiplyRows } from '../base/linalg/matrix.js';
import { Rng } from '../base/rng.js';
import type { AdapterFiles, AdapterTensor } from '../formats/peft.js';
import { peftLoraConfig, scalingOf } from '../formats/peftConfig.js';
import { adapterKey } from '../formats/peftNames.js';
import { type CombineInput, combineAdapters, parseCombineOptions } from './combine.js';
import { electedMean, keepLargest, keepRandom } from './taskArithmetic.js';

const SITE = 'model.layers.0.self_attn.q_proj';
const [IN, OUT] = [24, 16];

function adapterOf(seed: number, config: Parameters<typeof peftLoraConfig>[0], site = SITE): AdapterFiles {
  const { r = 8 } = config;
  const tensor = (name: string, shape: [number, number]): [string, AdapterTensor] => {
    const rng = new Rng(seed, name);
    return [name, { shape, data: Float32Array.from({ length: shape[0] * shape[1] }, () => rng.normal()) }];
  };
  const a = tensor(adapterKey(site, 'lora_A'), [r, IN]);
  const b = tensor(adapterKey(site, 'lora_B'), [OUT, r]);
  return { config: peftLoraConfig({ target_modules: ['q_proj'], ...config }), tensors: new Map([a, b]) };
}

/** scale·B·A */
function product({ config, tensors }: AdapterFiles, site = SITE): Float64Array {
  const of = (part: 'lora_A' | 'lora_B') => {
    const { shape, data } = tensors.get(adapterKey(site, part))!;
    return matrix(shape[0], shape[1], data);
  };
  return multiply(of('lora_B'), of('lora_A')).data.map((x) => x * scalingOf(config, site));
}

const combine = (adapters: AdapterFiles[], weights: number[], options: CombineInput) =>
  combineAdapters(
    adapters.map((adapter, i) => ({ name: `adapter ${i}`, adapter, weight: weights[i] })),
    parseCombineOptions('options', options),
  );
const largestError = (found: ArrayLike<number>, expected: ArrayLike<number>) =>
  Math.max(...Array.from(expected, (x, i) => Math.abs(x - found[i])));

describe('combination of adapters', () => {
  const one = adapterOf(1, { r: 4, lora_alpha: 8 });
  const other = adapterOf(2, { r: 3, lora_alpha: 5, use_rslora: true });

  it('cat, and svd of the full rank, are the exact sum, whatever the ranks and scales', () => {
    const sum = product(one).map((x, i) => 0.7 * x - 0.4 * product(other)[i]);
    for (const options of [{ combination: 'cat' }, { combination: 'svd', svdRank: 7 }] as const) {
      const combined = combine([one, other], [0.7, -0.4], options);
      expect(combined.config.r).toBe(7);
      expect(largestError(product(combined), sum)).toBeLessThan(1e-5);
    }
  });

  it('svd leaves the rows of A orthonormal and has the largest rank by default', () => {
    const { config, tensors } = combine([one, other], [1, 1], {});
    expect(config.r).toBe(4);
    const { data } = tensors.get(adapterKey(SITE, 'lora_A'))!;
    const a = matrix(4, IN, data);
    const identity = Array.from({ length: 16 }, (_, i) => Number(i % 5 === 0));
    expect(largestError(multiplyRows(a, a).data, identity)).toBeLessThan(1e-6);
  });

  it('svd cuts what is beyond a quantile of the values', () => {
    const values = (options: CombineInput) => {
      const { tensors } = combine([one, other], [1, 1], options);
      return Float32Array.from([...tensors.values()].flatMap(({ data }) => [...data])).sort();
    };
    const free = values({});
    const cut = values({ svdClamp: 0.9 });
    const limit = cut[cut.length - 1];
    const at = Math.floor(0.9 * (free.length - 1));
    expect(limit).toBeGreaterThan(free[at]);
    expect(limit).toBeLessThan(free[at + 1]);
    expect(cut[0]).toBe(-limit);
    expect(values({ svdClamp: 1 })[free.length - 1]).toBe(free[free.length - 1]);
  });

  it('a site that one adapter has alone keeps its product', () => {
    const alone = 'model.layers.1.self_attn.q_proj';
    const third = adapterOf(3, { r: 2, lora_alpha: 4 }, alone);
    const combined = combine([one, third], [1, 0.5], { combination: 'cat' });
    expect(largestError(product(combined), product(one))).toBeLessThan(1e-6);
    const half = product(third, alone).map((x) => x / 2);
    expect(largestError(product(combined, alone), half)).toBeLessThan(1e-6);
  });

  it('dare repeats itself by its seed, and at density 1 is linear', () => {
    const same = adapterOf(3, { r: 4, lora_alpha: 8 });
    const a = (options: CombineInput) =>
      combine([one, same], [0.5, 0.5], options).tensors.get(adapterKey(SITE, 'lora_A'))!.data;
    const dare = { combination: 'dare_linear', density: 0.5 } as const;
    expect(a(dare)).toEqual(a(dare));
    expect(a(dare)).not.toEqual(a({ ...dare, seed: 1 }));
    expect(a({ ...dare, density: 1 })).toEqual(a({ combination: 'linear' }));
    expect(a({ combination: 'dare_ties', density: 1 })).toEqual(a({ combination: 'ties', density: 1 }));
  });

  it('is refused with the reason', () => {
    const dora = { ...one, config: peftLoraConfig({ r: 4, use_dora: true }) };
    const wide = adapterOf(1, { r: 4 });
    wide.tensors.set(adapterKey(SITE, 'lora_A'), {
      shape: [4, IN + 1],
      data: new Float32Array(4 * (IN + 1)),
    });
    const extra = adapterOf(1, { r: 4 });
    extra.tensors.set('model.norm.weight', { shape: [2], data: new Float32Array(2) });
    for (const [adapters, options, message] of [
      [[], {}, 'there is no adapter to combine'],
      [[one, dora], {}, 'adapter 1 is a DoRA adapter, and only plain LoRA can be combined'],
      [[one, wide], {}, `${SITE} is 16 × 24 in adapter 0 and 16 × 25 in adapter 1`],
      [[one, extra], {}, 'adapter 1: model.norm.weight is no LoRA matrix'],
      [
        [one, other],
        { combination: 'linear' },
        `${SITE} has r 4 in adapter 0 and 3 in adapter 1: linear needs`,
      ],
      [[one, one], { combination: 'ties' }, 'combination ties needs the option "density"'],
      [[one, one], { combination: 'cat', svdRank: 2 }, 'combination cat takes no svdRank'],
    ] as [AdapterFiles[], CombineInput, string][]) {
      expect(() => combine(adapters, [1, 1], options)).toThrow(message);
    }
    expect(() => combine([one], [1], { combination: 'mean' as 'cat' })).toThrow('options: key "combination"');
  });
});

describe('pruning and election', () => {
  const values = Float32Array.of(1, -4, 2, 0.5, 4, -3);

  it('keeps the largest, of equal ones the first', () => {
    expect([...keepLargest(values, 0.5)]).toEqual([0, -4, 0, 0, 4, -3]);
    expect([...keepLargest(values, 0.2)]).toEqual([0, -4, 0, 0, 0, 0]);
    expect(keepLargest(values, 1)).toBe(values);
  });

  it('keeps at random as many as the density says, and their mean', () => {
    const ones = new Float32Array(20_000).fill(1);
    const kept = keepRandom(ones, 0.25, new Rng(0, 'dare'));
    expect(new Set(kept)).toEqual(new Set([0, 4]));
    expect(Math.abs(kept.reduce((a, b) => a + b) / ones.length - 1)).toBeLessThan(0.03);
  });

  it('averages what has the elected sign', () => {
    const tensors = [
      Float32Array.of(3, 1, 0, -1),
      Float32Array.of(-1, 1, 0, -2),
      Float32Array.of(-1, 0, 0, 5),
    ];
    expect([...electedMean(tensors, [1, 1, 1], 'total')]).toEqual([3, 1, 0, 5]);
    expect([...electedMean(tensors, [1, 1, 2], 'frequency')]).toEqual([-1.5, 1, 0, -1.5]);
  });
});
