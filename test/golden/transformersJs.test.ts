import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import {
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForSequenceClassification,
  AutoModelForTokenClassification,
  env,
  type PreTrainedModel,
  Tensor,
} from '@huggingface/transformers';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { baseForAdapter } from '../../src/api/task.js';
import { readJson } from '../../src/formats/io/node.js';
import { ONNX_FILES, type OnnxDType } from '../../src/formats/transformersJs.js';
import { type OnnxOptions, writeOnnxModel } from '../../src/methods/exportOnnx.js';
import { openModel } from '../../src/models/base.js';
import { architectures } from '../../src/models/index.js';
import { openSuite } from './fixture.js';
import { golden, greedySchema, openTensors, relativeError, takeRows } from './reference.js';

// Every architecture's tiny model with its adapter, exported, in transformers.js itself, against what transformers + PEFT computed.

const { runtime, scratch } = openSuite('transformers-js');
env.allowRemoteModels = false;
env.localModelPath = scratch;

const LIMIT = 1e-4;
/** What 8 bits a weight may do to tiny models of random weights; half precision does less. */
const LIMITS: Record<OnnxDType, number> = { fp32: LIMIT, fp16: 3e-3, q8: 5e-2 };

const batchSchema = z.looseObject({
  ids: z.array(z.array(z.int())),
  lengths: z.array(z.int()),
  type_ids: z.array(z.array(z.int())).optional(),
});
type Batch = z.output<typeof batchSchema>;
type Side = 'left' | 'right';
type Rows = readonly (readonly number[])[];
type Outputs = Record<string, Tensor & { data: Float32Array }>;

const int64 = (rows: Rows) =>
  new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);

/** Rows of tokens as it takes them, with their padding on a side. */
function feedsOf({ ids, lengths, type_ids }: Batch, side: Side): Record<string, Tensor> {
  const padded = (rows: Rows) =>
    int64(
      side === 'right' ? rows : rows.map((row, i) => [...row.slice(lengths[i]), ...row.slice(0, lengths[i])]),
    );
  return {
    input_ids: padded(ids),
    attention_mask: padded(lengths.map((n) => ids[0].map((_, i) => Number(i < n)))),
    ...(type_ids && { token_type_ids: padded(type_ids) }),
  };
}

/** What is of tokens, not of padding. */
function ofTokens({ dims, data }: Outputs[string], { lengths }: Batch, side: Side): Float32Array {
  const [, width, size] = dims;
  const rows = lengths.flatMap((n, row) =>
    Array.from({ length: n }, (_, i) => row * width + i + (side === 'left' ? width - n : 0)),
  );
  return takeRows(data, size, rows);
}

interface Case {
  batch: Batch;
  wanted: Float32Array;
}

/** A tiny model with its adapter as `folder` of what is loaded from, and what PEFT made of its batch. */
async function exported(folder: string, root: string, name: string, options: OnnxOptions): Promise<Case> {
  const model = await openModel(golden(`${root}/${name}`));
  const adapter = await readAdapterFor(golden(`${root}/${name}/adapter`), model);
  await writeOnnxModel(join(scratch, folder), runtime, model, adapter, options);
  const batch = await readJson(golden(`${root}/${name}/batch.json`), batchSchema);
  const tensors = await openTensors(golden(`${root}/${name}/expected.safetensors`));
  const all = await tensors.read(model.network.lmHead ? 'adapted_logits' : 'adapted_hidden');
  const { vocabSize, hiddenSize } = model.config;
  const dims = [...int64(batch.ids).dims, model.network.lmHead ? vocabSize : hiddenSize];
  return { batch, wanted: ofTokens(new Tensor('float32', all, dims) as Outputs[string], batch, 'right') };
}

async function outputsOf(model: PreTrainedModel, feeds: Record<string, Tensor>): Promise<Outputs> {
  return (await model(feeds)) as Outputs;
}

async function greedyTokens(
  model: PreTrainedModel,
  feeds: Record<string, Tensor>,
  n: number,
): Promise<number[][]> {
  const given = { ...feeds, max_new_tokens: n, do_sample: false, eos_token_id: null };
  const out = (await model.generate(given as never)) as Tensor;
  return (out.tolist() as bigint[][]).map((row) => row.slice(-n).map(Number));
}

/** Which transformers.js has no class for. */
const UNKNOWN = ['mixtral'];
const decoders = readdirSync(golden('fixtures')).filter((name) => !UNKNOWN.includes(name));
const encoders = readdirSync(golden('fixtures-encoders')).filter((name) =>
  statSync(golden(`fixtures-encoders/${name}`)).isDirectory(),
);

it('tries every architecture', () => {
  const tried = [...decoders, ...encoders];
  const untried = Object.keys(architectures).filter((type) => !tried.some((name) => name.startsWith(type)));
  expect(untried.filter((type) => type !== 'llama' && !UNKNOWN.includes(type))).toEqual([]);
});

describe.each(decoders)('%s', (name) => {
  let model: PreTrainedModel;
  let tiny: Case;
  beforeAll(async () => {
    tiny = await exported(name, 'fixtures', name, { dtype: ['fp32'] });
    model = await AutoModelForCausalLM.from_pretrained(name);
  });

  it.each(['left', 'right'] as const)('logits of rows of unequal length, padded on the %s', async (side) => {
    const { logits } = await outputsOf(model, feedsOf(tiny.batch, side));
    expect(relativeError(ofTokens(logits, tiny.batch, side), tiny.wanted)).toBeLessThan(LIMIT);
  });

  it('greedy tokens through its cache, of one row and of several', async () => {
    const schema = z.looseObject({ greedy: greedySchema });
    const { prompt, tokens } = (await readJson(golden(`fixtures/${name}/expected.json`), schema)).greedy;
    const of = (row: readonly number[]) => ({
      input_ids: int64([row]),
      attention_mask: int64([row.map(() => 1)]),
    });
    expect(await greedyTokens(model, of(prompt), tokens.length)).toEqual([tokens]);
    const alone: number[][] = [];
    const { ids, lengths } = tiny.batch;
    for (const [i, n] of lengths.entries())
      alone.push(...(await greedyTokens(model, of(ids[i].slice(0, n)), tokens.length)));
    expect(await greedyTokens(model, feedsOf(tiny.batch, 'left'), tokens.length)).toEqual(alone);
  });
});

describe.each(encoders)('%s', (name) => {
  it('hidden states of rows of unequal length', async () => {
    const { batch, wanted } = await exported(name, 'fixtures-encoders', name, { dtype: ['fp32'] });
    const model = await AutoModel.from_pretrained(name);
    const { last_hidden_state: hidden } = await outputsOf(model, feedsOf(batch, 'right'));
    expect(relativeError(ofTokens(hidden, batch, 'right'), wanted)).toBeLessThan(LIMIT);
  });
});

const taskNames = readdirSync(golden('fixtures-tasks'));
const taskSchema = z.looseObject({
  base: z.string(),
  config: z.looseObject({ classifier_pooling: z.enum(['cls', 'mean']).optional() }),
});

describe.each(taskNames)('the head of %s', (name) => {
  const folder = golden(`fixtures-tasks/${name}`);
  const target = `task-${name}`;
  it('gives the logits of PEFT, or is refused on a decoder', async () => {
    const { base, config } = await readJson(join(folder, 'expected.json'), taskSchema);
    const opened = await openModel(golden(base));
    const pooling = config.classifier_pooling;
    const classifier = pooling && { classifier: { ...Object(opened.config).classifier, pooling } };
    const bare = { ...opened, config: { ...opened.config, ...classifier } };
    const model = await baseForAdapter(join(folder, 'adapter'), bare);
    const adapter = await readAdapterFor(join(folder, 'adapter'), bare);
    const write = (given?: typeof adapter) =>
      writeOnnxModel(join(scratch, target), runtime, model, given, { dtype: ['fp32', 'q8'] });
    if (opened.network.lmHead) {
      await expect(write(adapter)).rejects.toThrow('transformers.js has such heads on encoders only');
      return;
    }
    await expect(write()).rejects.toThrow('the head is new (');
    await write(adapter);
    const { targets, ...batch } = await readJson(
      join(folder, 'batch.json'),
      batchSchema.extend({ targets: z.array(z.union([z.number(), z.array(z.number())])) }),
    );
    const load = name.endsWith('-tokens')
      ? AutoModelForTokenClassification
      : AutoModelForSequenceClassification;
    const tensors = await openTensors(join(folder, 'expected.safetensors'));
    for (const dtype of ['fp32', 'q8'] as const) {
      const web = await load.from_pretrained(target, { dtype });
      const { logits } = await outputsOf(web, feedsOf(batch, 'right'));
      const width = logits.dims.at(-1)!;
      const kept = targets.flatMap((given, row) =>
        typeof given === 'number'
          ? [row]
          : given.flatMap((label, i) => (label < 0 ? [] : [row * batch.ids[0].length + i])),
      );
      const found = takeRows(logits.data, width, kept);
      expect(relativeError(found, await tensors.read('logits')), dtype).toBeLessThan(LIMITS[dtype]);
    }
    const { id2label, problem_type } = await readJson(
      join(scratch, target, 'config.json'),
      z.looseObject({ id2label: z.record(z.string(), z.string()), problem_type: z.string().optional() }),
    );
    expect(Object.values(id2label)).toEqual(
      problem_type === 'regression' ? ['LABEL_0'] : ['LABEL_0', 'LABEL_1', 'LABEL_2'],
    );
  });
});

/** A decoder whose matrices are no whole blocks, one with a head of its own, and encoders. */
const few = [
  ['fixtures', 'smollm2', 'logits'],
  ['fixtures', 'gemma2', 'logits'],
  ['fixtures', 'gpt2', 'logits'],
  ['fixtures-encoders', 'bert', 'last_hidden_state'],
  ['fixtures-encoders', 'modernbert', 'last_hidden_state'],
] as const;

describe.each(few)('%s/%s', (root, name, output) => {
  const load = root === 'fixtures' ? AutoModelForCausalLM : AutoModel;
  const dtypes: OnnxDType[] = ['fp32', 'fp16', 'q8'];
  let tiny: Case;
  beforeAll(async () => {
    tiny = await exported(`${name}-all`, root, name, { dtype: dtypes });
  });

  it.each(dtypes)('in %s', async (dtype) => {
    const model = await load.from_pretrained(`${name}-all`, { dtype });
    const found = (await outputsOf(model, feedsOf(tiny.batch, 'right')))[output];
    const error = relativeError(ofTokens(found, tiny.batch, 'right'), tiny.wanted);
    expect(error).toBeLessThan(LIMITS[dtype]);
    // The types are different indeed.
    if (dtype !== 'fp32') expect(error).toBeGreaterThan(LIMIT / 10);
  });

  it.each(['fp32', 'q8'] as const)('in files of weights beside the model, in %s', async (dtype) => {
    const folder = `${name}-${dtype}-files`;
    await exported(folder, root, name, { dtype: [dtype], maxShardBytes: 20_000 });
    const files = readdirSync(join(scratch, folder, 'onnx'));
    expect(files.length).toBeGreaterThan(2);
    const sizes = files
      .filter((file) => file.includes('_data'))
      .map((file) => statSync(join(scratch, folder, 'onnx', file)).size);
    expect(sizes.filter((size) => size > 20_000).length).toBeLessThan(sizes.length / 2);
    const model = await load.from_pretrained(folder);
    const beside = await load.from_pretrained(`${name}-all`, { dtype });
    const feeds = feedsOf(tiny.batch, 'right');
    const [found, same] = [await outputsOf(model, feeds), await outputsOf(beside, feeds)];
    expect(relativeError(found[output].data, same[output].data)).toBe(0);
  });

  it.each(dtypes)('on the engine that browsers have, in %s', async (dtype) => {
    const web = await import(webEngine());
    const session = await web.InferenceSession.create(
      readFileSync(join(scratch, `${name}-all`, 'onnx', ONNX_FILES[dtype])),
      { executionProviders: ['wasm'] },
    );
    const feeds: Record<string, unknown> = {};
    for (const { name: input, shape } of session.inputMetadata as {
      name: string;
      shape: (number | string)[];
    }[]) {
      const given = feedsOf(tiny.batch, 'right')[input];
      const dims =
        given?.dims ??
        shape.map((d) => (d === 'batch_size' ? tiny.batch.ids.length : typeof d === 'number' ? d : 0));
      if (given) feeds[input] = new web.Tensor('int64', given.data, dims);
      else if (input === 'num_logits_to_keep')
        feeds[input] = new web.Tensor('int64', BigInt64Array.of(0n), []);
      else feeds[input] = new web.Tensor('float32', new Float32Array(0), dims);
    }
    const found = (await session.run(feeds))[output];
    await session.release();
    expect(relativeError(ofTokens(found, tiny.batch, 'right'), tiny.wanted)).toBeLessThan(LIMITS[dtype]);
  });
});

/** The onnxruntime-web that transformers.js comes with. */
function webEngine(): string {
  const from = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
  return from.resolve('onnxruntime-web');
}
