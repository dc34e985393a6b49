import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Rng } from '../base/rng.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { writeRecipe } from '../formats/quant/recipe.js';
import { writeSafetensors } from '../formats/safetensors.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { type Adapter, createAdapter } from '../methods/adapter.js';
import { loadAdapterFolder, toFiles, writeAdapterFolder } from '../methods/files.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import { writeMergedModel } from '../methods/merge.js';
import { type BaseModel, openModel } from '../models/base.js';
import { type Analysis, type AnalyzeEvent, type AnalyzeInput, analyze } from './analyze.js';
import { convert } from './convert.js';
import { loadModel } from './loadModel.js';
import { openBase, resolveBase } from './quantizedBase.js';

const fixtures = fileURLToPath(new URL('../../test/golden/fixtures', import.meta.url));
const base = join(fixtures, 'qwen2');
const other = join(fixtures, 'llama3');
const all = { targetModules: 'all-linear' };

let dir: string;
let model: BaseModel;
const runtime = new NodeRuntime();
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-analyze-'));
  model = await openModel(base);
});
afterAll(async () => {
  await runtime.close();
  await rm(dir, { recursive: true });
});

/** An adapter whose trained values were all moved at random. */
async function moved(method: MethodName, options: object, seed = 1, on = model): Promise<Adapter> {
  const found = methodNamed(method);
  const adapter = await createAdapter(found, found.parse('c', options), on, seed);
  for (const { name, requiresGrad } of adapter.trainables) {
    if (requiresGrad === false) continue;
    const rng = new Rng(seed, name);
    const { data } = adapter.values.get(name)!;
    for (let i = 0; i < data.length; i++) data[i] += 0.05 * rng.normal();
  }
  return adapter;
}

async function saved(name: string, adapter: Adapter, named: string | null = base): Promise<string> {
  const folder = join(dir, name);
  await writeFolderAtomic(folder, (to) => writeAdapterFolder(to, adapter, named));
  return folder;
}

async function done(
  adapter: string,
  beside?: string,
  options: AnalyzeInput = {},
): Promise<Analysis & { events: AnalyzeEvent[] }> {
  const work = analyze(adapter, beside, options);
  const events: AnalyzeEvent[] = [];
  for (;;) {
    const next = await work.next();
    if (next.done) return { ...next.value, events };
    events.push(next.value);
  }
}

const family: [string, MethodName, object][] = [
  ['LoRA', 'lora', { ...all, r: 3 }],
  ['rsLoRA', 'lora', { ...all, r: 3, useRslora: true, rankPattern: { k_proj: 2 } }],
  ['LoRA+', 'loraplus', { ...all, r: 2 }],
  ['LoRA-FA', 'lorafa', { ...all, r: 2 }],
  ['DoRA', 'dora', { ...all, r: 2 }],
  ['AdaLoRA', 'adalora', { ...all, initR: 3, targetR: 2 }],
  ['PiSSA', 'pissa', { ...all, r: 2 }],
  ['OLoRA', 'olora', { ...all, r: 2 }],
  ['VeRA', 'vera', { ...all, r: 12 }],
  ['LoRA of embedding and head', 'lora', { r: 2, targetModules: ['embed_tokens', 'lm_head', 'o_proj'] }],
  ['DoRA of an embedding', 'dora', { r: 2, targetModules: ['embed_tokens'] }],
  [
    'LoRA with a whole embedding',
    'lora',
    { r: 2, targetModules: ['q_proj'], modulesToSave: ['embed_tokens'] },
  ],
];

describe.each(family)('%s', (name, method, options) => {
  it('is what the model with it merged differs by', async () => {
    const adapter = await moved(method, options);
    const at = await saved(name, adapter);
    const merged = join(dir, `${name} merged`);
    await writeMergedModel(merged, runtime, model, adapter, { dtype: 'float32' });
    const alone = await done(at);
    expect(alone.model).toBe(base);
    expect(alone.modules.length).toBeGreaterThan(0);
    expect(alone.events.map(({ done: n }) => n)).toEqual(alone.modules.map((_, i) => i + 1));
    expect(alone.shares.roles.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 10);
    const tuned = await done(merged, undefined, { model: base });
    const names = (found: Analysis) => found.modules.map((module) => module.name);
    expect(names(tuned)).toEqual(names(alone));
    for (const [i, { change, relation, intruders, out, in: inputs }] of alone.modules.entries()) {
      const theirs = tuned.modules[i];
      expect([theirs.out, theirs.in]).toEqual([out, inputs]);
      expect(theirs.change.norm / change.norm).toBeCloseTo(1, 4);
      expect(theirs.change.stable / change.stable).toBeCloseTo(1, 4);
      expect([theirs.change.of90, theirs.change.of99]).toEqual([change.of90, change.of99]);
      expect(theirs.relation.weightNorm).toBe(relation.weightNorm);
      expect(theirs.intruders).toEqual(intruders);
      for (const [k, value] of change.values.entries()) {
        expect(Math.abs(theirs.change.values[k] - value) / change.values[0]).toBeLessThan(1e-4);
      }
    }
    // Beside each other: the same directions, however they are known.
    if (names(alone).some((site) => site === 'model.embed_tokens')) return;
    const both = await done(at, merged, { directions: 2 });
    expect(both.model).toBe(base);
    for (const { similarity } of both.modules) {
      expect(similarity.with).toBe('other');
      // The factors' own vectors are ordered by A and B, so only whole spaces are the same.
      if (method === 'dora') expect(similarity.a.phi[1][1]).toBeCloseTo(1, 3);
    }
  });
});

describe('other formats', () => {
  it('GGUF and mlx-lm adapters are analyzed as the PEFT adapter that they were', async () => {
    const adapter = join(other, 'adapter');
    const [gguf, mlx] = [join(dir, 'a.gguf'), join(dir, 'mlx')];
    await convert(adapter, gguf, { base: other });
    const { config, tensors } = toFiles(await loadAdapterFolder(adapter, await openModel(other)));
    await mkdir(mlx);
    const { r, lora_alpha: alpha } = config as { r: number; lora_alpha: number };
    const keys = { rank: r, scale: alpha / r, dropout: 0 };
    await writeFile(
      join(mlx, 'adapter_config.json'),
      JSON.stringify({ fine_tune_type: 'lora', lora_parameters: keys, num_layers: -1, model: other }),
    );
    await writeSafetensors(
      join(mlx, 'adapters.safetensors'),
      [...tensors].map(
        ([
          name,
          {
            shape: [rows, columns],
            data,
          },
        ]) => ({
          name: name.replace('.lora_A', '.lora_a').replace('.lora_B', '.lora_b'),
          dtype: 'F32' as const,
          shape: [columns, rows],
          data: async () => {
            const turned = Float32Array.from(
              { length: data.length },
              (_, i) => data[(i % rows) * columns + Math.floor(i / rows)],
            );
            return new Uint8Array(turned.buffer);
          },
        }),
      ),
    );
    const expected = await done(adapter, undefined, { model: other });
    const { adapter: _, events: __, ...rest } = expected;
    for (const at of [gguf, mlx]) {
      const { adapter: ___, events: ____, ...found } = await done(at, undefined, { model: other });
      expect(found).toEqual(rest);
    }
  });
});

describe('two adapters', () => {
  it('of two ranks are compared over all i and j', async () => {
    const four = await saved('four', await moved('lora', { ...all, r: 4 }));
    const six = await saved('six', await moved('lora', { ...all, r: 6 }, 2));
    const { modules } = await done(four, six);
    for (const { similarity, other: theirs } of modules) {
      expect(theirs?.rank).toBe(6);
      for (const { phi } of [similarity.a, similarity.b]) {
        expect(phi).toHaveLength(4);
        for (const row of phi) expect(row).toHaveLength(6);
      }
    }
    const alone = await done(four, undefined, { modules: 'q_proj,v_proj', directions: 2, seed: 4 });
    expect(new Set(alone.modules.map(({ role }) => role))).toEqual(new Set(['q_proj', 'v_proj']));
    expect(alone.modules[0].similarity).toMatchObject({ with: 'random' });
    expect(alone.modules[0].similarity.a.phi).toHaveLength(2);
    expect(alone.modules[0].relation.directions).toBe(2);
    expect(await done(four, undefined, { modules: '.*(q|v)_proj', directions: 2, seed: 4 })).toEqual({
      ...alone,
      options: { ...alone.options, modules: '.*(q|v)_proj' },
    });
  });

  it('of other bases, other shapes and other layers are refused, each in one sentence', async () => {
    const one = await saved('one', await moved('lora', { ...all, r: 2 }));
    const elsewhere = await saved('elsewhere', await moved('lora', { ...all, r: 2 }), 'some/other');
    const few = await saved('few', await moved('lora', { r: 2, targetModules: ['q_proj', 'v_proj'] }));
    await expect(done(one, elsewhere)).rejects.toThrow(
      `${one} is for the base ${base} and ${elsewhere} for some/other: if these are one, name it as the model`,
    );
    await done(one, elsewhere, { model: base });
    await expect(done(one, join(other, 'adapter'), { model: base })).rejects.toThrow(
      `was made for another base than ${base}`,
    );
    await expect(done(one, few)).rejects.toThrow(
      `${one} changes model.layers.0.self_attn.k_proj and 9 more, and ${few} does not: choose layers of both by the option modules`,
    );
    await expect(done(few, one)).rejects.toThrow(`${one} changes model.layers.0.self_attn.k_proj`);
    expect((await done(few, one, { modules: 'q_proj' })).modules).toHaveLength(2);
    await expect(done(few, undefined, { modules: 'up_proj' })).rejects.toThrow(
      'modules "up_proj" matches no layer; did you mean "q_proj"?; there are q_proj, v_proj',
    );
    await expect(done(one, other, { model: base })).rejects.toThrow('these are not one model, tuned');
  });
});

describe('a quantized base', () => {
  beforeAll(() => {
    vi.stubEnv('LOWRANK_CACHE', join(dir, 'cache'));
  });
  afterAll(() => {
    vi.unstubAllEnvs();
  });

  /** ‖W‖_F of each layer that was analyzed. */
  async function norms({ modules }: Analysis, of: BaseModel): Promise<number[]> {
    const read = modules.map(({ name }) => of.checkpoint.read(`${name}.weight`));
    return (await Promise.all(read)).map((data) => Math.hypot(...data));
  }

  it('is what a change is set beside, and what DoRA and tuned models differ from', async () => {
    const held = await openBase(await resolveBase(base, { quantize: 'nf4' }));
    const adapter = await moved('dora', { ...all, r: 2 }, 1, held);
    const [at, merged] = [join(dir, 'over nf4'), join(dir, 'over nf4, merged')];
    await writeFolderAtomic(at, async (to) => {
      await writeAdapterFolder(to, adapter, base);
      await writeRecipe(to, { format: 'nf4' });
    });
    await writeMergedModel(merged, runtime, held, adapter, { dtype: 'float32' });
    const notices: string[] = [];
    const onNotice = (line: string) => notices.push(line);
    const over = await done(at, undefined, { quantize: 'nf4', onNotice });
    expect(notices).toEqual([]);
    for (const [i, norm] of (await norms(over, held)).entries())
      expect(over.modules[i].relation.weightNorm / norm).toBeCloseTo(1, 6);
    const tuned = await done(merged, undefined, { model: base, quantize: 'nf4' });
    for (const [i, { change }] of tuned.modules.entries())
      expect(change.norm / over.modules[i].change.norm).toBeCloseTo(1, 4);
    // Beside the original it is told of, and rounding is taken for what was learned.
    const beside = await done(merged, undefined, { model: base });
    expect(beside.modules[0].change.norm).toBeGreaterThan(1.1 * over.modules[0].change.norm);
    await done(at, undefined, { onNotice });
    expect(notices).toEqual([
      `${at} was trained over nf4 weights and these are not: the option quantize nf4 gives the ones it fits`,
    ]);
  });

  it("is LoftQ's own for an adapter of LoftQ", async () => {
    const loaded = await loadModel('demo', { quantize: 'nf4' });
    await loaded.addMethod('loftq', { r: 2, loftqIter: 3, targetModules: ['q_proj'] });
    const at = join(dir, 'loftq');
    await loaded.saveAdapter(at);
    const notices: string[] = [];
    const analysis = await done(at, undefined, {
      quantize: 'nf4',
      onNotice: (line) => notices.push(line),
    });
    expect(notices).toEqual([]);
    for (const [i, norm] of (await norms(analysis, loaded.base)).entries())
      expect(analysis.modules[i].relation.weightNorm / norm).toBeCloseTo(1, 6);
    await loaded.close();
  });
});

describe('what is nothing to analyze', () => {
  it('methods whose result is in no matrix', async () => {
    const prompt = await saved('prompt', await moved('prompt', { numVirtualTokens: 3 }));
    const houlsby = await saved('houlsby', await moved('houlsby', { bottleneckSize: 3 }));
    for (const [at, method] of [
      [prompt, 'prompt'],
      [houlsby, 'houlsby'],
    ]) {
      await expect(done(at)).rejects.toThrow(
        `${at}: what method ${method} trains is in no matrix of the model, so there is no change of one to analyze`,
      );
    }
  });

  it('a model that is its base, one without a base, and no adapter at all', async () => {
    await expect(done(base, undefined, { model: base })).rejects.toThrow(
      `${base} has the same layers as ${base}: nothing to analyze`,
    );
    await expect(done(base)).rejects.toThrow(
      `${base} names no base: name the model that it was made of, by --model on the command line`,
    );
    await expect(done(join(dir, 'nowhere'))).rejects.toThrow(`there is nothing at ${join(dir, 'nowhere')}`);
    await expect(done(base, undefined, { model: base, directions: 0 })).rejects.toThrow(
      'analysis options: directions: ',
    );
  });

  it('a change that is zero is told as such', async () => {
    const found = methodNamed('lora');
    const start = await createAdapter(found, found.parse('c', { r: 2, targetModules: ['q_proj'] }), model, 1);
    const { modules, shares } = await done(await saved('start', start));
    for (const { change } of modules) expect(change).toMatchObject({ norm: 0, share: 0, entropy: 0 });
    expect(shares.roles).toEqual([{ role: 'q_proj', share: 0 }]);
  });

  it('ends with the reason of its signal', async () => {
    const adapter = await saved('ended', await moved('lora', { ...all, r: 2 }));
    const ending = new AbortController();
    const work = analyze(adapter, undefined, { signal: ending.signal });
    await work.next();
    ending.abort(new Error('enough'));
    await expect(work.next()).rejects.toThrow('enough');
  });
});
