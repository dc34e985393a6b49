import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AutoModel, AutoModelForCausalLM, env, Tensor } from '@huggingface/transformers';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { readJson } from '../../src/formats/io/node.js';
import type { OnnxDType } from '../../src/formats/transformersJs.js';
import { writeOnnxModel } from '../../src/methods/exportOnnx.js';
import { openModel } from '../../src/models/base.js';
import { openSuite } from './fixture.js';
import { golden, greedySchema, openTensors, relativeError, takeRows } from './reference.js';

// Every architecture's tiny model with its adapter, exported, in transformers.js itself, against what transformers + PEFT computed.

env.allowRemoteModels = false;
const LIMIT = 1e-4;

const { runtime, scratch } = openSuite('transformers-js');
env.localModelPath = scratch;

const batchSchema = z.looseObject({
  ids: z.array(z.array(z.int())),
  lengths: z.array(z.int()),
  type_ids: z.array(z.array(z.int())).optional(),
});
type Batch = z.output<typeof batchSchema>;

/** Rows of tokens as it takes them; with the padding on the left where asked. */
function feedsOf({ ids, lengths, type_ids }: Batch, left = false): Record<string, Tensor> {
  const dims = [ids.length, ids[0].length];
  const moved = (rows: readonly (readonly number[])[]) =>
    left ? rows.map((row, i) => [...row.slice(lengths[i]), ...row.slice(0, lengths[i])]) : rows;
  const tensor = (rows: readonly (readonly number[])[]) =>
    new Tensor('int64', BigInt64Array.from(moved(rows).flat(), BigInt), dims);
  const mask = lengths.map((n) => ids[0].map((_, i) => Number(i < n)));
  return {
    input_ids: tensor(ids),
    attention_mask: tensor(mask),
    ...(type_ids && { token_type_ids: tensor(type_ids) }),
  };
}

/** Flat positions of the tokens. */
function tokensOf({ ids, lengths }: Batch, left = false): number[] {
  const width = ids[0].length;
  return lengths.flatMap((n, row) => Array.from({ length: n }, (_, i) => row * width + i + (left ? width - n : 0)));
}

async function exported(root: string, name: string, dtypes: readonly OnnxDType[]): Promise<string> {
  const model = await openModel(golden(`${root}/${name}`));
  const adapter = await readAdapterFor(golden(`${root}/${name}/adapter`), model);
  await writeOnnxModel(join(scratch, name), runtime, model, adapter, { dtypes });
  return name;
}

const decoders = readdirSync(golden('fixtures'));

describe.each(decoders)('%s', (name) => {
  let model: Awaited<ReturnType<typeof AutoModelForCausalLM.from_pretrained>>;
  let batch: Batch;
  let wanted: Float32Array;
  beforeAll(async () => {
    await exported('fixtures', name, ['fp32']);
    model = await AutoModelForCausalLM.from_pretrained(name, { dtype: 'fp32' });
    batch = await readJson(golden(`fixtures/${name}/batch.json`), batchSchema);
    const tensors = await openTensors(golden(`fixtures/${name}/expected.safetensors`));
    wanted = await tensors.read('adapted_logits');
  });

  it.each([false, true])('logits of rows of unequal length, padded on the left: %s', async (left) => {
    const { logits } = await model(feedsOf(batch, left));
    const vocab = logits.dims[2];
    const of = (values: Float32Array, onLeft: boolean) => takeRows(values, vocab, tokensOf(batch, onLeft));
    expect(relativeError(of(logits.data, left), of(wanted, false))).toBeLessThan(LIMIT);
  });

  it('greedy tokens through its cache', async () => {
    const { greedy } = await readJson(
      golden(`fixtures/${name}/expected.json`),
      z.looseObject({ greedy: greedySchema }),
    );
    const { prompt, tokens } = greedy;
    const input_ids = new Tensor('int64', BigInt64Array.from(prompt, BigInt), [1, prompt.length]);
    const out = (await model.generate({
      inputs: input_ids,
      max_new_tokens: tokens.length,
      do_sample: false,
      eos_token_id: null,
    } as never)) as Tensor;
    expect(Array.from(out.data as BigInt64Array, Number).slice(prompt.length)).toEqual(tokens);
  });
});

const encoders = readdirSync(golden('fixtures-encoders')).filter((name) =>
  statSync(golden(`fixtures-encoders/${name}`)).isDirectory(),
);

describe.each(encoders)('%s', (name) => {
  it('hidden states of rows of unequal length', async () => {
    await exported('fixtures-encoders', name, ['fp32']);
    const model = await AutoModel.from_pretrained(name, { dtype: 'fp32' });
    const batch = await readJson(golden(`fixtures-encoders/${name}/batch.json`), batchSchema);
    const tensors = await openTensors(golden(`fixtures-encoders/${name}/expected.safetensors`));
    const { last_hidden_state: hidden } = await model(feedsOf(batch));
    const of = (values: Float32Array) => takeRows(values, hidden.dims[2], tokensOf(batch));
    const error = relativeError(of(hidden.data), of(await tensors.read('adapted_hidden')));
    expect(error).toBeLessThan(LIMIT);
  });
});
