import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countedMethodRows } from './methods.js';
import { type PlanOptions, plan } from './plan.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lowrank-plan-'));
});
afterAll(() => rm(root, { recursive: true }));

const fixture = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

describe('a plan', () => {
  it('of GPT-3: the figures of the paper, from its name', async () => {
    const options = { r: 4, targetModules: ['q_proj', 'v_proj'] };
    const { model, method, storage, memory } = await plan('gpt3', { methodOptions: options, tasks: 1000 });
    expect(model).toMatchObject({ name: 'GPT-3 175B', dtype: 'float16', parameters: 174_604_259_328 });
    // 350 GB in the paper, which rounds to 175B parameters.
    expect(model.bytes.value).toBe(2 * 174_604_259_328);
    expect(method).toMatchObject({
      trainable: { value: 18_874_368 },
      checkpointBytes: { value: 4 * 18_874_368, formula: '4·saved', numbers: '4·18874368' },
    });
    expect(storage.adapters.value).toBe(model.bytes.value + 1000 * 4 * 18_874_368);
    expect(memory.here).toBeNull();
    expect(memory.gpu.optimizer).toEqual({
      value: 12 * 18_874_368,
      formula: '(4 + 4 + 4)·trained',
      numbers: '12·18874368',
    });
  });

  it('counts memory by the formulas of its sources', async () => {
    const common = { batchSize: 2, maxLength: 128, methodOptions: { r: 4, targetModules: ['attention.q'] } };
    const { memory, method } = await plan('gpt2', common);
    const layer = 128 * 2 * (34 * 768 + 5 * 12 * 128);
    expect(memory.gpu.activations.value).toBe(12 * layer);
    expect(memory.gpu.logits.value).toBe(4 * 128 * 2 * 50_257);
    const n = method.trainable.value;
    expect(memory.gpu.weights.value).toBe(2 * 124_439_808 + 2 * n);
    const again = await plan('gpt2', { ...common, gradientCheckpointing: true });
    expect(again.memory.gpu.activations.value).toBe(2 * 128 * 2 * 768 * 12 + layer);
    // Sixteen bytes a parameter: Rajbhandari et al.
    const { gpu } = (await plan('gpt2', { ...common, methodOptions: {}, method: 'full' })).memory;
    expect(gpu.weights.value + gpu.gradients.value + gpu.optimizer.value).toBe(16 * 124_439_808);
    const sum = Object.entries(gpu).reduce(
      (total, [, f]) => total + (typeof f === 'number' ? 0 : f.value),
      0,
    );
    expect(gpu.total).toBe(sum);
  });

  it('takes a folder, "demo", a config.json, a .gguf file; a model that is trained here has a forecast', async () => {
    const demo = await plan('demo', { quantize: 'nf4', maxLength: 64 });
    expect(demo.model).toMatchObject({ modelType: 'llama', dtype: 'float16', parameters: 3_672_320 });
    expect(demo.model.bytes.value).toBeLessThan(2 * 3_672_320);
    // A step does not read all that is stored with the codes.
    expect(demo.memory.here!.weights / demo.model.bytes.value).toBeGreaterThan(0.95);
    expect(demo.memory.here!.weights).toBeLessThanOrEqual(demo.model.bytes.value);
    const folder = await plan(fixture('assets/base'));
    const config = await plan(fixture('assets/base/config.json'));
    expect(folder.method).toEqual(config.method);
    expect(folder.memory.here).toEqual(config.memory.here);
    const gguf = await plan(fixture('src/formats/gguf/fixtures/qwen2.gguf'));
    expect(gguf.model.modelType).toBe('qwen2');
    expect(gguf.memory.here!.total).toBeGreaterThan(0);
  });

  it('of all methods counts what `methods` counts', async () => {
    const { methods } = await plan('demo', { allMethods: true, methodOptions: { r: 4 } });
    const rows = await countedMethodRows('demo', { r: 4 });
    expect(
      methods!.map((m) => [m.method, 'refused' in m ? { refused: m.refused } : m.trainable.value]),
    ).toEqual(rows.map((r) => [r.name, 'refused' in r.trainable ? r.trainable : r.trainable.parameters]));
  });

  it.each([
    ['roberta-bse', {}, 'no shape of that name (did you mean "roberta-base"?): known are gpt2, '],
    ['gpt2', { tasks: 0 }, 'the number of tasks is 0, expected a whole number of at least 1'],
    ['gpt2', { methodOptions: { r: 769 } }, 'r 769 is larger than transformer.h.0.attn.c_attn allows'],
    ['gpt2', { maxLength: 1025 }, 'a maximum length of 1025 is more than the 1024 positions of GPT-2 small'],
    ['gpt2', { batchSize: 0 }, 'plan options: key "batchSize": expected a number above 0'],
    [
      'demo',
      { method: 'full', quantize: 'nf4' },
      "trains the model's own weights, which a base in nf4 has not",
    ],
    ['gpt2', { batchsize: 2 }, 'did you mean "batchSize"?'],
    [fixture('src'), {}, 'has no config.json; name a model'],
    [fixture('test/golden/fixtures/llama3/adapter'), {}, 'is an adapter, which has no shape of its own'],
    [fixture('package.json'), {}, 'key "model_type" is missing'],
  ] as const)('refuses %s with %j', async (model, options, message) => {
    await expect(plan(model, options as PlanOptions)).rejects.toThrow(message);
  });

  it('refuses a config.json without a key that is needed', async () => {
    const path = join(root, 'config.json');
    await writeFile(
      path,
      JSON.stringify({ model_type: 'gpt3', n_embd: 8, n_layer: 2, n_positions: 9, vocab_size: 3 }),
    );
    await expect(plan(path)).rejects.toThrow(`${path}: key "n_head": expected number, received undefined`);
    await writeFile(path, '{"model_type": ');
    await expect(plan(path)).rejects.toThrow('is not valid JSON');
  });
});
