import { describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { peftLoraConfig } from '../formats/peftConfig.js';
import { parseModelConfig } from '../models/index.js';
import type { Role, Site } from '../models/model.js';
import { describe as shapeOf } from '../models/shape.js';
import { full } from './full.js';
import { methodNamed, methods } from './index.js';
import { type LoraConfig, lora } from './lora.js';
import { matchTargets, selectTargets, type TargetChoice } from './targets.js';

const config = parseModelConfig('config.json', {
  model_type: 'llama',
  vocab_size: 50,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
});
const model = shapeOf(config);
const names = (target: string | string[]) => matchTargets(target, model.sites).map((s) => s.name);

describe('target_modules', () => {
  it('takes names, full names, a regular expression, all-linear', () => {
    expect(names(['q_proj', 'v_proj'])).toHaveLength(4);
    expect(names(['self_attn.q_proj'])).toHaveLength(2);
    expect(names(['model.layers.1.mlp.up_proj'])).toEqual(['model.layers.1.mlp.up_proj']);
    expect(names('.*layers\\.0\\..*_proj')).toHaveLength(7);
    expect(names('all-linear')).toHaveLength(14);
    expect(names(['lm_head'])).toEqual(['lm_head']);
  });
  it.each([
    [['q_prj'], 'target_modules "q_prj" matches no layer; did you mean "q_proj"?; there are q_proj, k_proj'],
    [['query'], 'target_modules "query" matches no layer; there are q_proj'],
    [['embed_tokens'], 'target_modules "embed_tokens" is an embedding'],
    ['q_proj', 'target_modules "q_proj" matches no layer'],
    ['(', 'target_modules "(" is not a regular expression'],
    [[] as string[], 'target_modules is empty'],
  ])('refuses %j', (target, message) => {
    expect(() => names(target)).toThrow(message);
  });
});

describe('which targets are left', () => {
  const left = (c: Partial<TargetChoice>) =>
    selectTargets({ targetModules: ['q_proj', 'down_proj', 'embed_tokens'], ...c }, model.sites, [
      'linear',
      'embedding',
    ]).map((s) => s.name.replace('model.', '').replace('self_attn.', '').replace('mlp.', ''));
  it('excludes by names and by a regular expression', () => {
    expect(left({ excludeModules: ['q_proj'] })).toEqual([
      'embed_tokens',
      'layers.0.down_proj',
      'layers.1.down_proj',
    ]);
    expect(left({ excludeModules: '.*\\.(0\\..*|embed_tokens)' })).toEqual([
      'layers.1.q_proj',
      'layers.1.down_proj',
    ]);
    expect(left({ modulesToSave: ['mlp', 'embed_tokens'] })).toEqual(['layers.0.q_proj', 'layers.1.q_proj']);
  });
  it('takes layers by number, and what is named in full', () => {
    const targetModules = ['q_proj', 'down_proj'];
    expect(left({ targetModules, layersToTransform: [1] })).toEqual([
      'layers.1.q_proj',
      'layers.1.down_proj',
    ]);
    expect(left({ targetModules, layersToTransform: [0], layersPattern: ['h', 'layers'] })).toHaveLength(2);
    const named = ['model.embed_tokens', 'q_proj'];
    expect(left({ targetModules: named, layersToTransform: [1] })).toEqual([
      'embed_tokens',
      'layers.1.q_proj',
    ]);
  });
  it.each([
    [
      { excludeModules: ['q_prj'] },
      'exclude_modules "q_prj" matches no layer; there are embed_tokens, q_proj',
    ],
    [{ excludeModules: '(' }, 'exclude_modules "(" is not a regular expression'],
    [{ excludeModules: '.*' }, 'exclude_modules leave none of the layers that target_modules names'],
    [{ layersToTransform: [1] }, 'layers_to_transform: target model.embed_tokens is in none of the layers'],
    [{ layersToTransform: [2] }, 'layers_to_transform 2: the targets are in layers 0 to 1'],
    [{ layersToTransform: [0], layersPattern: ['h'] }, "layers_pattern h fits no target's name"],
    [
      { targetModules: ['q_proj'], modulesToSave: ['q_proj'] },
      'modules_to_save leave none of the layers that target_modules names',
    ],
  ])('refuses %j', (c, message) => {
    expect(() => left(c)).toThrow(message);
  });
});

describe('lora', () => {
  const select = (c: object) => lora.select(lora.parse('c', c), model);
  it('counts r(d + k) a matrix', () => {
    const count = (c: object) => select(c).reduce((n, t) => n + t.shape[0] * t.shape[1], 0);
    expect(count({ r: 2, targetModules: ['q_proj'] })).toBe(2 * 2 * (16 + 16));
    expect(
      count({ r: 2, target_modules: ['k_proj'], rank_pattern: { 'layers.1.self_attn.k_proj': 3 } }),
    ).toBe((2 + 3) * (16 + 8));
  });
  it('starts with B zero and A as the init says', async () => {
    const noBase = () => Promise.reject(new Error('LoRA starts without the base'));
    const values = (c: object) => Promise.all(select(c).map((t) => t.init!(new Rng(1, t.name), noBase)));
    const std = (v: Float32Array) => Math.sqrt(v.reduce((s, x) => s + x * x, 0) / v.length);
    const [a, b] = await values({ r: 8, targetModules: ['down_proj'] });
    expect(b.every((x) => x === 0)).toBe(true);
    expect(Math.max(...a.map(Math.abs))).toBeLessThan(1 / Math.sqrt(24));
    expect(std(a)).toBeCloseTo(1 / Math.sqrt(3 * 24), 1);
    const [gaussian] = await values({ r: 8, targetModules: ['down_proj'], initLoraWeights: 'gaussian' });
    expect(std(gaussian)).toBeGreaterThan(0.1);
    expect(std(gaussian)).toBeLessThan(0.15);
    const [, random] = await values({ r: 8, targetModules: ['down_proj'], initLoraWeights: false });
    expect(std(random)).toBeGreaterThan(0);
  });
  it('starts orthogonally with B·A zero, and neither of them', async () => {
    const [a, b] = select({ r: 4, targetModules: ['down_proj'], initLoraWeights: 'orthogonal' });
    const noBase = () => Promise.reject(new Error('LoRA starts without the base'));
    const [x, y] = await Promise.all([a.init!(new Rng(1, 'a'), noBase), b.init!(new Rng(1, 'b'), noBase)]);
    for (const values of [x, y]) expect(Math.max(...values)).toBeGreaterThan(0.05);
    for (let i = 0; i < 16; i++) {
      for (let j = 0; j < 24; j++) {
        let product = 0;
        for (let k = 0; k < 4; k++) product += y[i * 4 + k] * x[k * 24 + j];
        expect(Math.abs(product)).toBeLessThan(1e-8);
      }
    }
  });
  it('is on all linear layers with α = 2r unless told otherwise, while a file of PEFT means its own defaults', () => {
    expect(lora.parse('c', { r: 4 })).toMatchObject({ loraAlpha: 8, targetModules: 'all-linear' });
    const numbered = lora.resolve!(lora.parse('c', { layersToTransform: [1] }), model);
    expect(select({ layersToTransform: [1] })).toHaveLength(2 * 7);
    // PEFT refuses numbers of layers beside a text.
    expect(lora.toPeft!(numbered).target_modules).toHaveLength(7);
    const wide = peftLoraConfig({ r: 16, target_modules: ['q_proj'] });
    expect(lora.fromPeft!(wide, ['model.layers.0.self_attn.q_proj'])).toMatchObject({ loraAlpha: 8 });
  });
  it('takes roles, alike for every model, which are names in what is saved', () => {
    const named = (targetModules: string | string[], of: typeof model = model) => {
      const parsed = lora.resolve!(lora.parse('c', { targetModules }), of);
      return lora.toPeft!(parsed).target_modules;
    };
    expect(select({ targetModules: 'attention.q,attention.v' })).toHaveLength(2 * 2 * 2);
    expect(named('attention.q,attention.v')).toEqual(['q_proj', 'v_proj']);
    expect(named(['o_proj', 'mlp.gate', 'embedding', 'head'])).toEqual([
      'o_proj',
      'embed_tokens',
      'gate_proj',
      'lm_head',
    ]);
    expect(named('all-linear')).toBe('all-linear');
    // As GPT-2 has it: one last name for two roles.
    const site = (name: string, role: Role, layer: number): Site => ({
      ...{ name: `h.${layer}.${name}`, role, layer },
      ...{ kind: 'linear', in: 4, out: 4, bias: true },
    });
    const sites = [0, 1].flatMap((i) => [
      site('attn.c_proj', 'attention.o', i),
      site('mlp.c_proj', 'mlp.down', i),
    ]);
    expect(named('attention.o', { ...model, sites })).toEqual(['attn.c_proj']);
    // Of a model with experts PEFT's "all-linear" would be the router, too.
    const moe = shapeOf(parseModelConfig('c', { model_type: 'mixtral', num_hidden_layers: 1 }));
    expect(named('all-linear', moe)).toEqual(['q_proj', 'k_proj', 'v_proj', 'o_proj', 'w1', 'w3', 'w2']);
    expect(named('mlp.down,router', moe)).toEqual(['gate', 'w2']);
    expect(() => select({ targetModules: 'attention.qkv' })).toThrow(
      'target_modules "attention.qkv" matches no layer',
    );
  });
  it('reads its own configuration back as it is', () => {
    const options = {
      target_modules: 'q_proj,embed_tokens',
      exclude_modules: 'layers.0.self_attn.q_proj',
      layers_to_transform: '0,1',
      layers_pattern: 'layers',
      modules_to_save: 'norm,lm_head',
      bias: 'all',
      trainable_token_indices: '7,3',
      init_lora_weights: 'mica',
    };
    const parsed = lora.parse('c', options);
    expect(parsed).toMatchObject({
      excludeModules: ['layers.0.self_attn.q_proj'],
      layersToTransform: [0, 1],
      layersPattern: ['layers'],
      modulesToSave: ['norm', 'lm_head'],
      trainableTokenIndices: [7, 3],
    });
    expect(lora.parse('c', JSON.parse(JSON.stringify(parsed)))).toEqual(parsed);
  });
  it.each([
    [{ targetModules: '.*', layersToTransform: [0] }, 'c: layers_to_transform needs target_modules by name'],
    [{ layersPattern: ['layers'] }, 'c: layers_pattern needs layers_to_transform'],
    [{ loraBias: true, initLoraWeights: 'gaussian' }, 'c: lora_bias needs init_lora_weights true or false'],
    [{ loraBias: true, targetModules: ['embed_tokens'] }, 'lora_bias is not for embeddings'],
    [{ initLoraWeights: 'orthogonal', r: 3 }, 'init_lora_weights "orthogonal" needs an even rank'],
    [{ modulesToSave: ['hed'] }, 'modules_to_save "hed" names no module; there are embed_tokens, '],
    [
      { modulesToSave: ['proj'] },
      'modules_to_save and target_modules both name model.layers.0.self_attn.q_proj',
    ],
    [{ trainableTokenIndices: [50] }, 'trainable_token_indices of "embed_tokens": 50 is no token below 50'],
    [{ trainableTokenIndices: [3, 3] }, 'trainable_token_indices of "embed_tokens": 3 is no token'],
    [{ trainableTokenIndices: [] }, 'no token is named'],
    [{ trainableTokenIndices: { q_proj: [1] } }, 'there are embed_tokens and lm_head'],
    [
      { trainableTokenIndices: [1], targetModules: ['q_proj', 'lm_head'] },
      'lm_head is adapted or trained whole already',
    ],
    [{ trainableTokenIndices: [1], modulesToSave: ['embed_tokens'] }, 'adapted or trained whole already'],
  ])('refuses %j', (c, message) => {
    expect(() => select(c)).toThrow(message);
  });
  it.each([
    [{ rank: 4 }, 'c: unknown key "rank"'],
    [{ use_dora: true }, 'c: use_dora is a method of its own here, "dora"'],
    [{ lora_alph: 4 }, 'did you mean "lora_alpha"?'],
    [{ r: 0 }, 'c: key "r"'],
    [{ eva_config: {} }, 'c: eva_config is for init_lora_weights "eva"'],
    [
      { init_lora_weights: 'eva', eva_config: { rho: 0.5 } },
      'c: key "eva_config.rho": rho: expected at least 1',
    ],
    [
      { init_lora_weights: 'eva', eva_config: { whitten: true } },
      'unknown key "eva_config.whitten", did you mean "whiten"?',
    ],
    [{ init_lora_weights: 'eva', lora_bias: true }, 'c: lora_bias needs init_lora_weights true or false'],
  ])('refuses %j', (c, message) => {
    expect(() => select(c)).toThrow(message);
  });
  it('starts as EVA has it only where that was planned', () => {
    for (const tensor of select({ initLoraWeights: 'eva', targetModules: ['q_proj', 'embed_tokens'] })) {
      const start = () => tensor.init!(new Rng(0, tensor.name), async () => new Float32Array());
      if (tensor.name.endsWith('.lora_B')) expect(start()).toEqual(new Float32Array(8 * 16));
      else expect(start).toThrow('out of the data: plan it first (model.planEva)');
    }
  });
  it('takes directions of a matrix up to its rank, and others as many as asked for', async () => {
    const start = async (initLoraWeights: LoraConfig['initLoraWeights'], end: string) => {
      const of = select({ r: 18, targetModules: ['q_proj'], initLoraWeights }).find(({ name }) =>
        name.endsWith(end),
      )!;
      expect(of.shape).toContain(18);
      return of.init!(new Rng(0, end), async () => new Float32Array(256));
    };
    for (const init of [true, false, 'gaussian', 'orthogonal'] as const) {
      for (const end of ['lora_A', 'lora_B']) expect(await start(init, end)).toHaveLength(18 * 16);
    }
    await expect(start('mica', 'lora_B')).rejects.toThrow(
      'r 18 is larger than model.layers.0.self_attn.q_proj allows: its matrix is 16 × 16; lower it to 16',
    );
  });
});

describe('dora', () => {
  it('starts its magnitudes at the norms of the rows, and refuses a row without a direction', async () => {
    const [, , magnitude] = methods.dora.select(
      methods.dora.parse('c', { targetModules: ['q_proj'] }),
      model,
    );
    const base = Float32Array.from({ length: 256 }, (_, i) => (i % 16 < 2 ? 3 + (i % 16) : 0));
    const init = () => magnitude.init!(new Rng(1), () => Promise.resolve(base));
    expect(await init()).toEqual(new Float32Array(16).fill(5));
    base.fill(0, 16, 32);
    await expect(init()).rejects.toThrow('row 1 of model.layers.0.self_attn.q_proj is zero');
  });
});

describe('adapters in folders of their own form', () => {
  it('refuse what is not theirs', () => {
    const { prefix, houlsby } = methods;
    const read = (keys: Record<string, unknown>) =>
      prefix.parse('a.json', prefix.folder!.decode('a.json', keys));
    expect(read({ num_virtual_tokens: 3, prefix_projection: true })).toEqual({
      numVirtualTokens: 3,
      prefixProjection: false,
    });
    expect(() => read({ num_virtual_tokens: 0 })).toThrow('a.json: key "num_virtual_tokens"');
    expect(() => read({ num_virtual_tokens: 3, num_transformer_submodules: 2 })).toThrow(
      'is not implemented',
    );
    expect(() => read({ num_virtual_tokens: 3, modules_to_save: ['lm_head'] })).toThrow('is not implemented');
    expect(() => houlsby.parse('a.json', { bottleneck_size: 3, non_linearity: 'gelu' })).toThrow(
      'a.json: key "non_linearity"',
    );
    expect(() => houlsby.parse('a.json', { r: 3 })).toThrow('a.json: unknown key "r"');
    expect(() => prefix.parse('c', { encoderHiddenSize: 3 })).toThrow('is for prefix_projection');
  });
  it('need the layers that they stand at', () => {
    const bare = {
      sites: model.sites.filter((s) => !/k_proj|down_proj|o_proj/.test(s.name)),
      parameters: new Map(),
      trained: [],
      cache: { layers: 2, kvHeads: 2, headDim: 4 },
    };
    expect(() => methods.lin.select(methods.lin.parse('c', {}), bare)).toThrow(
      'lin stands behind mlp.down, and the model has none',
    );
  });
});

describe('the table', () => {
  it('names what there is', () => {
    expect(methodNamed('lora')).toBe(lora);
    expect(() => methodNamed('loar')).toThrow('method "loar" is unknown, expected one of lora, loraplus, ');
  });
  it('full selects every tensor', () => {
    expect(full.select({}, model).map((t) => t.name)).toEqual([...model.parameters.keys()]);
  });
});

describe('LoRA+', () => {
  const given = { r: 2, targetModules: ['q_proj', 'embed_tokens'], loraplusLrRatio: 4 };
  const groups = (more: object) => {
    const method = methodNamed('loraplus');
    const parsed = method.parse('c', { ...given, ...more });
    const factors = method
      .select(parsed, model)
      .map((t) => [t.name.split('.').at(-1)!, method.learningRateFactor!(parsed, t, 1e-3)] as const);
    return Object.fromEntries(factors);
  };
  it('has the groups of PEFT: A, B and vectors, embeddings at a rate of their own', () => {
    expect(groups({ loraplusLrEmbedding: 5e-5, modulesToSave: ['norm'] })).toEqual({
      lora_A: 1,
      lora_B: 4,
      lora_embedding_A: expect.closeTo(0.05, 12),
      lora_embedding_B: expect.closeTo(0.05, 12),
      weight: 4,
    });
    expect(groups({ targetModules: ['q_proj'], loraBias: true })).toEqual({
      lora_A: 1,
      lora_B: 4,
      lora_bias: 4,
    });
    expect(groups({}).lora_embedding_A).toBeCloseTo(1e-3, 12);
  });
});
