import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { f32 } from '../../src/base/tensor.js';
import { readJson } from '../../src/formats/io/node.js';
import { keyOfFileName, peftFileName } from '../../src/formats/peftNames.js';
import { readSafetensorsHeader, readTensorBytes, writeSafetensors } from '../../src/formats/safetensors.js';
import { compile } from '../../src/graph/emit.js';
import { type Adapter, adaptedSites, createAdapter } from '../../src/methods/adapter.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { distanceIndices } from '../../src/models/distances.js';
import type { Rows } from '../../src/models/feeds.js';
import { architectures, parseModelConfig } from '../../src/models/index.js';
import { trainingStream } from '../../src/models/stream.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { DropoutMasks } from '../../src/train/dropout.js';
import { LossStep } from '../../src/train/step.js';
import { encode } from './encoderRun.js';
import { LIMITS, openSuite } from './fixture.js';
import { golden, openTensors, relativeError, takeRows } from './reference.js';

// Each folder of fixtures-encoders/ is a tiny encoder with what transformers + PEFT compute on it
// (scripts/parity/make_encoder_fixtures.py). A new encoder is a new folder; nothing changes here.

const ROOT = 'fixtures-encoders';
const batchSchema = z.object({
  ids: z.array(z.array(z.int())),
  lengths: z.array(z.int()),
  type_ids: z.array(z.array(z.int())),
});
const expectedSchema = z.object({
  task_names: z.array(z.string()),
  head_names: z.array(z.string()),
  takes_prefix: z.boolean(),
});

const { runtime, scratch } = openSuite('encoders');
const cases = readdirSync(golden(ROOT)).filter((name) => statSync(golden(`${ROOT}/${name}`)).isDirectory());

it('has a fixture of every encoder', () => {
  const encoders = Object.keys(architectures).filter((type) => {
    const network = architectures[type].network(architectures[type].parse('c', { model_type: type }));
    return !network.lmHead;
  });
  expect(encoders.filter((type) => !cases.some((name) => name.startsWith(type)))).toEqual([]);
});

describe('what config.json leaves out', () => {
  it('is what the classes of transformers have', async () => {
    const defaults = await readJson(
      golden(`${ROOT}/defaults.json`),
      z.record(z.string(), z.record(z.string(), z.unknown())),
    );
    for (const [type, keys] of Object.entries(defaults)) {
      expect(parseModelConfig('c', { model_type: type })).toEqual(
        parseModelConfig('c', { ...keys, model_type: type }),
      );
    }
  });
});

it("DeBERTa's indices of distances are those of transformers, each of them", async () => {
  const tables = await readJson(golden(`${ROOT}/distances.json`), z.record(z.string(), z.array(z.number())));
  for (const [sizes, theirs] of Object.entries(tables)) {
    const [span, furthest] = sizes.split(' ').map(Number);
    const square = distanceIndices(furthest, { span, furthest });
    const column = Array.from({ length: furthest }, (_, i) => square[i * furthest]);
    expect([...square.subarray(0, furthest)].reverse()).toEqual(theirs.slice(0, furthest));
    expect(column).toEqual(theirs.slice(furthest - 1));
  }
});

describe.each(cases)('%s', (name) => {
  const folder = golden(`${ROOT}/${name}`);
  let model: BaseModel;
  let adapter: Adapter;
  let rows: Rows;
  let real: number[];
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;
  const notices: string[] = [];
  beforeAll(async () => {
    model = await openModel(folder, { onNotice: (message) => notices.push(message) });
    adapter = await readAdapterFor(join(folder, 'adapter'), model);
    const batch = await readJson(join(folder, 'batch.json'), batchSchema);
    const length = batch.ids[0].length;
    rows = {
      rows: batch.ids.length,
      length,
      ids: Int32Array.from(batch.ids.flat()),
      lengths: Int32Array.from(batch.lengths),
      typeIds: Int32Array.from(batch.type_ids.flat()),
    };
    real = batch.lengths.flatMap((n, row) => Array.from({ length: n }, (_, i) => row * length + i));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
  });

  const ofReal = (values: Float32Array) => takeRows(values, model.config.hiddenSize, real);
  async function hiddenError(
    reference: string,
    of: BaseModel,
    adapted?: Adapter,
    given = rows,
  ): Promise<number> {
    const { hidden } = await encode(runtime, of, given, { adapter: adapted });
    return relativeError(ofReal(hidden), ofReal(await tensors.read(reference)));
  }

  it('hidden states of rows of unequal length, of the base and with the adapter', async () => {
    expect(notices).toEqual([]);
    expect(await hiddenError('base_hidden', model)).toBeLessThan(LIMITS.logits);
    expect(await hiddenError('adapted_hidden', model, adapter)).toBeLessThan(LIMITS.logits);
  });

  it('the gradient of every A and B, the pooler among them where there is one', async () => {
    const { names } = tensors;
    const isPooled = names.includes('pooled');
    const cotangents = {
      hidden: await tensors.read('cotangent'),
      ...(isPooled && { pooled: await tensors.read('pooled_cotangent') }),
    };
    const { grads, pooled } = await encode(runtime, model, rows, { adapter, cotangents });
    if (isPooled) expect(relativeError(pooled!, await tensors.read('pooled'))).toBeLessThan(LIMITS.logits);
    const { prefix } = model.network.names;
    const fileName = (trainable: string) =>
      `grad.${peftFileName(trainable)}`.replace(`model.model.${prefix}`, 'model.model.');
    expect([...grads.keys()].map(fileName).sort()).toEqual(
      names.filter((key) => key.startsWith('grad.')).sort(),
    );
    for (const [trainable, data] of grads) {
      const theirs = await tensors.read(fileName(trainable));
      expect(relativeError(data, theirs), trainable).toBeLessThan(LIMITS.gradient);
    }
  });

  it('a merged model, written and read back', async () => {
    const merged = join(scratch, name);
    await writeMergedModel(merged, runtime, model, adapter, { dtype: 'float32' });
    expect(await hiddenError('merged_hidden', await openModel(merged))).toBeLessThan(LIMITS.logits);
  });

  it('an adapter is written by the names that PEFT has for a classifier, and read by either', async () => {
    const mine = join(scratch, `${name}-adapter`);
    mkdirSync(mine);
    await writeAdapterFolder(mine, adapter, null);
    const written = await readSafetensorsHeader(join(mine, 'adapter_model.safetensors'));
    const inner = [...written.tensors.keys()].filter((key) => !key.includes('.pooler.'));
    expect(inner.sort()).toEqual(expected.task_names);
    expect([...written.tensors.keys()].every((key) => keyOfFileName(key, () => false))).toBe(true);
    const again = await readAdapterFor(mine, model);
    expect([...again.values]).toEqual([...adapter.values]);
  });

  it('packed rows give the states of rows of their own', async () => {
    const [a, b] = [rows.lengths[0], rows.lengths[1]];
    const second = (values: Int32Array) => values.slice(rows.length, rows.length + b);
    const packed = {
      rows: 1,
      length: a + b,
      ids: Int32Array.from([...rows.ids.slice(0, a), ...second(rows.ids)]),
      typeIds: Int32Array.from([...rows.typeIds!.slice(0, a), ...second(rows.typeIds!)]),
      lengths: Int32Array.of(a + b),
      starts: Int32Array.from({ length: a + b }, (_, i) => (i < a ? 0 : a)),
    };
    const { hidden } = await encode(runtime, model, packed, { packed: true });
    const wanted = takeRows(await tensors.read('base_hidden'), model.config.hiddenSize, real.slice(0, a + b));
    expect(relativeError(hidden, wanted)).toBeLessThan(LIMITS.logits);
  });

  it('keys and values before the sequence are seen by all, or refused as in PEFT', async () => {
    const method = methodNamed('prefix');
    const options = { numVirtualTokens: 3 };
    const started = createAdapter(method, method.parse('c', options), model);
    if (!expected.takes_prefix) {
      await expect(started).rejects.toThrow('this model takes none');
      return;
    }
    const prefix = await started;
    const [[key, { dims }]] = prefix.values;
    prefix.values.set(key, f32(await tensors.read('prefix'), dims));
    const untyped = { ...rows, typeIds: undefined };
    expect(await hiddenError('prefix_hidden', model, prefix, untyped)).toBeLessThan(LIMITS.logits);
  });

  it('is refused where the next token is asked for', async () => {
    const type = model.config.modelType;
    await expect(DecodeStep.create(runtime, model, undefined)).rejects.toThrow(
      `${type} is an encoder: it does not generate`,
    );
    await expect(LossStep.create(runtime, model, undefined)).rejects.toThrow(
      `${type} is an encoder: it is not trained to predict the next token`,
    );
  });

  it('a checkpoint of a task has the prefix of its class, a head beside it and maybe no pooler', async () => {
    const task = join(scratch, `${name}-task`);
    await mkdir(task);
    await cp(join(folder, 'config.json'), join(task, 'config.json'));
    const { tensors: stored } = await readSafetensorsHeader(join(folder, 'model.safetensors'));
    const { prefix } = model.network.names;
    const entries = [...stored.values()]
      .filter((info) => !info.name.startsWith('pooler.'))
      .map((info) => ({
        name: `${prefix}${info.name}`
          .replace('LayerNorm.weight', 'LayerNorm.gamma')
          .replace('LayerNorm.bias', 'LayerNorm.beta'),
        dtype: info.dtype,
        shape: info.shape,
        data: () => readTensorBytes(info),
      }));
    const heads = expected.head_names.map((head) => ({ ...entries[0], name: head }));
    await writeSafetensors(join(task, 'model.safetensors'), [...entries, ...heads]);
    const opened = await openModel(task, { onNotice: (message) => notices.push(message) });
    expect(notices).toEqual([]);
    expect(opened.network.pooler).toBeUndefined();
    expect(opened.sites.some(({ role }) => role === 'pooler')).toBe(false);
    expect(await hiddenError('base_hidden', opened)).toBeLessThan(LIMITS.logits);
  });
});

describe('keys of config.json', () => {
  it.each([
    [
      { model_type: 'bert', is_decoder: true },
      'c: key "is_decoder": such a model is supported as an encoder alone',
    ],
    [{ model_type: 'bert', position_embedding_type: 'relative_key' }, 'relative positions are not supported'],
    [{ model_type: 'bert', num_attention_heads: 7 }, 'c: key "num_attention_heads": 7 does not divide'],
    [{ model_type: 'deberta-v2', embedding_size: 8 }, 'c: key "embedding_size": another size than 1536'],
    [{ model_type: 'deberta-v2', conv_kernel_size: 4 }, 'c: key "conv_kernel_size": 4 is even'],
    [{ model_type: 'deberta-v2', conv_groups: 2 }, 'convolutions in groups are not supported'],
    [
      { model_type: 'modernbert', layer_types: ['full_attention'] },
      'has 1 entries, and num_hidden_layers is 22',
    ],
    [{ model_type: 'roberta', max_position_embeddings: 2 }, 'of 2 positions none is left'],
  ])('refuses %j', (config, message) => {
    expect(() => parseModelConfig('c', config)).toThrow(message);
  });
});

it('a type of token that the model has not is refused', async () => {
  const model = await openModel(golden(`${ROOT}/roberta`));
  const rows = { rows: 1, length: 2, ids: Int32Array.of(5, 6), lengths: Int32Array.of(2) };
  const typed = { ...rows, typeIds: Int32Array.of(0, 1) };
  await expect(encode(runtime, model, typed)).rejects.toThrow(
    'a token has the type 1, and the model has types below 1',
  );
});

it('two inputs of one layer have a dropout mask each: tokens and distances', async () => {
  const model = await openModel(golden(`${ROOT}/deberta-v2`));
  const lora = methodNamed('lora');
  const options = { loraDropout: 0.5, targetModules: ['query_proj'], layersToTransform: [0] };
  const adapter = await createAdapter(lora, lora.parse('c', options), model);
  const { sites, dropout } = adaptedSites(model, adapter, true);
  const hidden = model.network.forward(sites, trainingStream(model.network));
  const { inputs } = compile({ hidden });
  const masks = new DropoutMasks(inputs, dropout).feeds(
    { rows: 2, length: 5 },
    { seed: 0, step: 0, micro: 0 },
  );
  const at = 'deberta.encoder.layer.0.attention.self.query_proj.dropout';
  expect(Object.entries(masks).map(([name, { dims }]) => [name, dims])).toEqual([
    [at, [10, 32]],
    [`${at}.again`, [8, 32]],
  ]);
});
