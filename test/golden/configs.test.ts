import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { UserError } from '../../src/base/errors.js';
import { sizeOf } from '../../src/base/tensor.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { encodeF32 } from '../../src/formats/float16.js';
import { readJson } from '../../src/formats/io/node.js';
import { type TensorEntry, weightDType, writeSafetensors } from '../../src/formats/safetensors.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { extractLora, extractShape } from '../../src/methods/extract.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { openModel } from '../../src/models/base.js';
import { classDefaults } from '../../src/models/defaults.js';
import { LossStep } from '../../src/train/step.js';
import { golden } from './reference.js';

// What transformers makes of each config.json and checkpoint (scripts/parity/make_config_cases.py): the same loss here, or
// a refusal in one sentence.

const tensor = z.object({
  shape: z.array(z.number()),
  dtype: z.enum(['F32', 'F64']),
  seed: z.number(),
});
type Stored = z.output<typeof tensor>;
const fileSchema = z.looseObject({ ids: z.array(z.number()) });
const caseSchema = z.object({
  config: z.looseObject({ num_hidden_layers: z.number().optional() }),
  tensors: z.number(),
  loss: z.number().nullable(),
});

const file = await readJson(golden('fixtures-configs/cases.json'), fileSchema);
const cases = Object.entries(file)
  .filter(([key]) => key.startsWith('case '))
  .map(([key, value]) => ({ name: key.slice('case '.length), ...caseSchema.parse(value) }));

/** What transformers computes and this program refuses, with the reason that it gives. */
const REFUSED: Record<string, string> = {
  'rope: partial beside': 'partial_rotary_factor": rotating a part of each head only is not supported',
  'gemma3_text: bidirectional':
    'key "use_bidirectional_attention": such a model is an encoder, and not supported',
};
/** What transformers does not run for reasons of its own, and what the reading of the keys has a plain answer to. */
const BEYOND = [
  'window: mistral, layer_types full, none',
  'heads: qwen3, head_dim null',
  'heads: mistral, num_key_value_heads null',
  'eps: a whole number',
];
/** Tensors that the configuration has no place for are named. */
const NOTICES: Record<string, string> = {
  'bias: in the file and not in the config': 'no place for 8 tensors of the weights',
  'bias: mistral with the key':
    'no place for a tensor of the weights, left out as transformers does: model.layers.0.',
  'tie: an unequal head': 'config.json ties the LM head to the embeddings',
  'names: a layer too many':
    'no place for 9 tensors of the weights, left out as transformers does: model.layers.1.input_layernorm.weight,',
  'names: a tensor of nothing': 'left out as transformers does: model.extra.weight',
};

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-configs-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

/** make_config_cases.py's `values`: whole numbers from a small generator, scaled. */
function valuesOf({ seed, shape }: Stored, name: string): Float64Array {
  return Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
    const whole = ((i * 7919 + (i % 89) * 613 + seed * 1009) % 2003) - 1001;
    if (name.endsWith('norm.weight')) return 1 + whole / 2002;
    return (whole / 1001) * (name.endsWith('bias') ? 1 : 3 * shape[shape.length - 1] ** -0.5);
  });
}

async function write(folder: string, config: object, tensors: Record<string, Stored>): Promise<void> {
  await mkdir(folder);
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const entries = Object.entries(tensors).map(([name, stored]): TensorEntry => {
    const { dtype, shape } = stored;
    const values = valuesOf(stored, name);
    const data = () =>
      dtype === 'F64'
        ? new Uint8Array(values.buffer)
        : encodeF32(Float32Array.from(values), weightDType(dtype)!);
    return { name, dtype, shape, data };
  });
  await writeSafetensors(join(folder, 'model.safetensors'), entries);
}

async function lossOf(folder: string, ids: number[]): Promise<{ loss: number; notices: string[] }> {
  const notices: string[] = [];
  const model = await openModel(folder, { onNotice: (message) => notices.push(message) });
  const step = await LossStep.create(runtime, model, undefined);
  const targets = ids.length - 1;
  const { lossSum } = await step.run({
    rows: 1,
    length: ids.length,
    ids: Int32Array.from(ids),
    lengths: Int32Array.of(ids.length),
    targetRows: Int32Array.from({ length: targets }, (_, i) => i),
    targetIds: Int32Array.from(ids.slice(1)),
  });
  await step.close();
  return { loss: lossSum / targets, notices };
}

describe('what config.json leaves out', () => {
  it('is what the classes of transformers have', async () => {
    expect(classDefaults).toEqual(
      await readJson(golden('fixtures-configs/defaults.json'), z.looseObject({})),
    );
  });
});

describe('a config.json and its checkpoint', () => {
  it.each(cases)('$name', async ({ name, config, tensors, loss }) => {
    const folder = join(scratch, String(cases.findIndex((c) => c.name === name)));
    await write(folder, config, z.record(z.string(), tensor).parse(file[`tensors ${tensors}`]));
    const found = lossOf(folder, file.ids);
    const refused = REFUSED[name];
    if (refused || (loss === null && !BEYOND.includes(name))) {
      await expect(found).rejects.toThrow(UserError);
      await expect(found).rejects.toThrow(refused ?? folder);
      return;
    }
    const { loss: ours, notices } = await found;
    if (loss !== null) expect(Math.abs(ours - loss) / loss).toBeLessThan(2e-6);
    expect(notices.join('\n')).toContain(NOTICES[name] ?? '');
    if (!(name in NOTICES)) expect(notices).toEqual([]);
  });
});

describe('a head of its own under tie_word_embeddings', () => {
  const folderOf = async (name: string): Promise<string> => {
    const { config, tensors } = cases.find((c) => c.name === name)!;
    const folder = join(scratch, name.replaceAll(/\W+/g, '-'));
    await write(folder, config, z.record(z.string(), tensor).parse(file[`tensors ${tensors}`]));
    return folder;
  };

  it('stays in a merged model, which is written untied, and is extracted', async () => {
    const [tied, own] = [await folderOf('tie: an equal head'), await folderOf('tie: an unequal head')];
    const model = await openModel(own);
    const merged = join(scratch, 'merged');
    await writeMergedModel(merged, runtime, model, undefined);
    expect(await readJson(join(merged, 'config.json'), z.looseObject({}))).toMatchObject({
      tie_word_embeddings: false,
    });
    const { loss } = await lossOf(merged, file.ids);
    expect(loss).toBeCloseTo((await lossOf(own, file.ids)).loss, 6);

    const options = z.object(extractShape).parse({ r: 4, targetModules: ['lm_head'] });
    const run = extractLora(await openModel(tied), model, options);
    const { value } = await run.next();
    expect(value).toMatchObject({ site: 'lm_head', r: 4 });
    const all = extractLora(await openModel(tied), model, z.object(extractShape).parse({}));
    await expect(all.next()).rejects.toThrow('nothing to extract, which differ in lm_head.weight though');
  });

  it('is written once where it is the embedding', async () => {
    const merged = join(scratch, 'merged-equal');
    await writeMergedModel(merged, runtime, await openModel(await folderOf('tie: only the head')), undefined);
    const { tensors } = await openCheckpoint(merged);
    expect(tensors.has('model.embed_tokens.weight')).toBe(true);
    expect(tensors.has('lm_head.weight')).toBe(false);
  });
});
