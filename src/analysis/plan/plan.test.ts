import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { parameterCount } from '../../models/shape.js';
import { builtInNames, builtInShape, nearestBuiltIn } from './builtIn.js';
import { countMethod, countMethods, matrixCounts, paperBaseline } from './parameters.js';
import { shapeOfConfig } from './shapes.js';
import { storageOf } from './storage.js';

// What transformers makes of the same configurations: scripts/parity/make_shape_fixtures.py.
interface Counted {
  config: Record<string, unknown>;
  parameters: number;
  biases: number;
}
const fixture: { builtIn: Record<string, Counted>; small: Counted[] } = JSON.parse(
  readFileSync(new URL('./fixtures/shapes.json', import.meta.url), 'utf8'),
);
const shape = (name: string) => builtInShape(name)!;
const QV = ['attention.q', 'attention.v'];
const lora = (name: string, r: number, targetModules = QV) =>
  countMethod(shape(name), 'lora', { r, targetModules }).trainable.value;

describe('shapes', () => {
  it('every built-in model has as many parameters as transformers makes', () => {
    expect(Object.keys(fixture.builtIn).sort()).toEqual([...builtInNames].sort());
    for (const [name, { parameters }] of Object.entries(fixture.builtIn)) {
      expect([name, parameterCount(shape(name))]).toEqual([name, parameters]);
    }
  });

  it('a config.json of each kind does, and bitfit trains the biases that transformers has', () => {
    const configs = [...Object.values(fixture.builtIn), ...fixture.small];
    for (const { config, parameters, biases } of configs) {
      const read = shapeOfConfig('it', 'config.json', config);
      expect([config.model_type, parameterCount(read)]).toEqual([config.model_type, parameters]);
      if (biases > 0) expect(countMethod(read, 'bitfit').trainable.value).toBe(biases);
    }
  });

  it('a built-in name may be in capitals, and the nearest one is known', () => {
    expect(builtInShape('GPT3')?.name).toBe('GPT-3 175B');
    expect(builtInShape('constructor')).toBeUndefined();
    expect(nearestBuiltIn('roberta-bse')).toBe('roberta-base');
  });

  it.each([
    [{}, 'c: key "model_type" is missing'],
    [{ model_type: 'gpt_2' }, 'key "model_type": "gpt_2" is not known'],
    [{ model_type: 'gpt3', n_embd: 8, n_layer: 1, n_head: 2, vocab_size: 9 }, 'c: key "n_positions"'],
    [
      { ...fixture.builtIn['roberta-base'].config, hidden_size: '768' },
      'c: key "hidden_size": expected number',
    ],
    [{ ...fixture.builtIn['roberta-base'].config, num_hidden_layers: 1e9 }, 'of at most 1024'],
    [{ ...fixture.builtIn['deberta-xxl'].config, vocab_size: -1 }, 'c: key "vocab_size"'],
  ])('refuses %j', (config, message) => {
    const attempt = () => shapeOfConfig('it', 'c', config);
    expect(attempt).toThrow(UserError);
    expect(attempt).toThrow(message);
  });
});

describe('the figures of the LoRA paper', () => {
  it('one matrix: 12,288² at r 4 and 4,096² at r 8', () => {
    const gpt3 = matrixCounts(12_288, 12_288, 4);
    expect([gpt3.full.value, gpt3.lora.value, gpt3.times]).toEqual([150_994_944, 98_304, 1536]);
    const llama = matrixCounts(4096, 4096, 8);
    expect([llama.full.value, llama.lora.value, llama.times]).toEqual([16_777_216, 65_536, 256]);
    expect(gpt3.lora).toMatchObject({ formula: 'r·(d + k)', numbers: '4·(12288 + 12288)' });
    expect(() => matrixCounts(4, 8, 5)).toThrow('r 5 is larger than the matrix allows');
  });

  it('W_q and W_v, 192 matrices of GPT-3: 4.7M, 18.9M (not the 9.4M of 96 matrices), 37.7M', () => {
    expect([1, 4, 8].map((r) => lora('gpt3', r))).toEqual([4_718_592, 18_874_368, 37_748_736]);
    expect(lora('gpt3', 4, ['attention.q'])).toBe(9_437_184);
    expect(countMethod(shape('gpt3'), 'lora', { r: 4, targetModules: QV })).toMatchObject({
      sites: 192,
      trainable: { formula: 'r·(in + out) a target', numbers: '192·(4·12288 + 12288·4)' },
    });
  });

  it('RoBERTa, DeBERTa-XXL; GPT-2 by the formula, where the paper prints 0.35M and 0.77M', () => {
    // GPT-2 has q, k and v in one matrix: r·(d + 3d), as many as 2·r·2d of two square ones.
    expect(lora('roberta-base', 8)).toBe(294_912);
    expect(lora('roberta-large', 8)).toBe(786_432);
    expect(lora('deberta-xxl', 16)).toBe(4_718_592);
    expect(lora('gpt2-medium', 4)).toBe(393_216);
    expect(lora('gpt2-large', 4)).toBe(737_280);
  });

  it('one budget for one, two or four matrices of a layer (Table 5)', () => {
    for (const [r, targets] of [
      [8, ['attention.q']],
      [8, ['attention.k']],
      [4, QV],
      [2, [...QV, 'attention.k', 'attention.o']],
    ] as const) {
      expect(lora('gpt3', r, [...targets])).toBe(18_874_368);
    }
  });

  it('AdapterH by its formula and by the method; AdapterL with its LayerNorms is method lin', () => {
    const gpt3 = shape('gpt3');
    for (const [r, value] of [
      [1, 7_078_080],
      [8, 40_109_568],
    ]) {
      const formula = paperBaseline(gpt3, { kind: 'adapter-h', r, layerNorms: false });
      expect(formula.value).toBe(value);
      expect(countMethod(gpt3, 'houlsby', { bottleneckSize: r }).trainable.value).toBe(value);
      const withNorms = paperBaseline(gpt3, { kind: 'adapter-l', r, layerNorms: true });
      expect(countMethod(gpt3, 'lin', { bottleneckSize: r }).trainable.value).toBe(withNorms.value);
    }
    expect(paperBaseline(gpt3, { kind: 'adapter-h', r: 1, layerNorms: true })).toEqual({
      value: 7_078_080 + 2 * 192 * 12_288,
      formula: 'L̂_Adpt·(2·d·r + r + d) + 2·L̂_LN·d',
      numbers: '192·(2·12288·1 + 1 + 12288) + 2·192·12288',
    });
  });

  it('prefix-embedding 3.2M; prefix-layer is a vector a layer and token, method prefix two', () => {
    const gpt3 = shape('gpt3');
    const embedding = paperBaseline(gpt3, { kind: 'prefix-embedding', prefixTokens: 256, infixTokens: 8 });
    expect(embedding).toEqual({ value: 3_244_032, formula: 'd·(l_p + l_i)', numbers: '12288·(256 + 8)' });
    expect(countMethod(gpt3, 'prompt', { numVirtualTokens: 264 }).trainable.value).toBe(3_244_032);
    const layer = paperBaseline(gpt3, { kind: 'prefix-layer', prefixTokens: 8, infixTokens: 8 });
    expect(layer.value).toBe(96 * 12_288 * 16);
    // Table 4 prints 14.2M for all biases: docs/plan.md.
    expect(countMethod(gpt3, 'bitfit').trainable.value).toBe(12_988_416);
    expect(countMethod(gpt3, 'prefix', { numVirtualTokens: 16 }).trainable.value).toBe(2 * layer.value);
  });

  it('1,000 tasks: 350 TB against 385 GB, 909 times', () => {
    const plan = storageOf(350e9, 35e6, 1000);
    expect([plan.full.value, plan.adapters.value, Math.round(plan.times)]).toEqual([350e12, 385e9, 909]);
    expect(plan.adapters).toMatchObject({
      formula: 'model + N · adapter',
      numbers: '350000000000 + 1000·35000000',
    });
    for (const tasks of [0, -1, 1.5, Number.NaN]) {
      expect(() => storageOf(1, 1, tasks)).toThrow('expected a whole number of at least 1');
    }
  });
});

describe('methods on a shape', () => {
  it('each is counted, or says why not', () => {
    const rows = countMethods(shape('llama-3-1b'), { r: 8, target_modules: QV });
    const byName = new Map(rows.map((row) => [row.method, row]));
    const loraTrains = 16 * (8 * (2048 + 2048) + 8 * (2048 + 512));
    expect(byName.get('lora')).toMatchObject({
      trainable: { value: loraTrains, numbers: '16·(8·2048 + 2048·8) + 16·(8·2048 + 512·8)' },
      saved: loraTrains,
      sites: 32,
    });
    // A and B of twice the rank; A, which does not train; the whole model.
    expect(byName.get('pissa')).toMatchObject({ trainable: { value: loraTrains }, saved: 2 * loraTrains });
    expect(byName.get('lorafa')).toMatchObject({
      trainable: { value: 16 * 8 * (2048 + 512) },
      saved: loraTrains,
    });
    expect(byName.get('full')).toMatchObject({ share: 1, saved: 1_235_814_400 });
    expect(byName.get('bitfit')).toMatchObject({ refused: expect.stringContaining('this model has none') });
  });

  it('a rank beyond a matrix is refused, by the matrix that it is beyond', () => {
    const attempt = (method: 'lora' | 'pissa') => () =>
      countMethod(shape('llama-3-1b'), method, { r: 513, targetModules: QV });
    const message =
      'r 513 is larger than model.layers.0.self_attn.v_proj allows: its matrix is 512 × 2048; lower it to 512';
    expect(attempt('lora')).toThrow(message);
    expect(attempt('pissa')).toThrow(message);
    expect(() => countMethod(shape('roberta-base'), 'lora', { targetModules: ['c_attn'] })).toThrow(
      'there are word_embeddings, position_embeddings, token_type_embeddings, query, key, value, dense, or',
    );
  });
});
