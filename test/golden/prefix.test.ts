import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { f32 } from '../../src/base/tensor.js';
import { readJson } from '../../src/formats/io/node.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { loadAdapterFolder, writeAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { trainLoop } from '../../src/train/loop.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import {
  golden,
  openTensors,
  ReferenceBatch,
  relativeError,
  runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// Each folder of fixtures-prefix/ is a PREFIX_TUNING or PROMPT_TUNING adapter with what PEFT computes
// (scripts/parity/make_prefix_fixtures.py).

const expectedSchema = runSchema.extend({
  base: z.string(),
  options: z.object({
    num_virtual_tokens: z.int(),
    prefix_projection: z.boolean().default(false),
    encoder_hidden_size: z.int().optional(),
  }),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-prefix-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

describe.each(readdirSync(golden('fixtures-prefix')))('%s', (name) => {
  const folder = golden(`fixtures-prefix/${name}`);
  let model: BaseModel;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const base = golden(`fixtures/${expected.base}`);
    model = await openModel(base);
    batch = await ReferenceBatch.read(join(base, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
  });

  const inFile = (tensor: string) => tensor.replace(/^.*\./, '');
  const loaded = () => loadAdapterFolder(join(folder, 'adapter'), model);

  /** The adapter as it trains: behind a network, where there is one. */
  async function inTraining(): Promise<Adapter> {
    if (!expected.options.prefix_projection) return loaded();
    const method = methodNamed('prefix');
    const adapter = await createAdapter(method, method.parse('c', expected.options), model);
    for (const { name: tensor, shape } of adapter.trainables) {
      adapter.values.set(tensor, f32(await tensors.read(tensor), shape));
    }
    return adapter;
  }

  async function logitsOf(adapter: Adapter): Promise<Float32Array> {
    const step = await LossStep.create(runtime, model, adapter, { logits: true });
    const { logits } = await step.run(batch.everywhere());
    await step.close();
    return logits!.data;
  }

  it('logits, of the adapter as it is loaded and as it trains', async () => {
    const wanted = takeRows(await tensors.read('logits'), model.config.vocabSize, batch.realRows);
    expect(relativeError(await logitsOf(await loaded()), wanted)).toBeLessThan(1e-5);
    expect(relativeError(await logitsOf(await inTraining()), wanted)).toBeLessThan(1e-5);
  });

  it('saved and loaded again: the same keys and values, in the same file', async () => {
    const target = join(scratch, name);
    await mkdir(target);
    await writeAdapterFolder(target, await inTraining(), 'base');
    const [mine, theirs] = [await loadAdapterFolder(target, model), await loaded()];
    const values = ({ values: all }: Adapter) => [...all.values()][0];
    expect(values(mine).dims).toEqual(values(theirs).dims);
    expect(relativeError(values(mine).data, values(theirs).data)).toBeLessThan(1e-6);
  });

  it('loss and the gradient of all that trains', async () => {
    const step = await TrainStep.create(runtime, model, await inTraining());
    const micro = batch.supervised();
    const { loss, grads } = await step.run(micro, 1 / micro.targetRows.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);
    const reference = tensors.names.filter((n) => n.startsWith('grad.'));
    expect([...grads.keys()].map((n) => `grad.${inFile(n)}`).sort()).toEqual(reference.sort());
    for (const [trainable, grad] of grads) {
      const error = relativeError(grad.data, await tensors.read(`grad.${inFile(trainable)}`));
      expect(error, trainable).toBeLessThan(1e-4);
    }
  });

  it('losses of 20 AdamW steps', async () => {
    const examples = batch.examples();
    const options = trainOptions(expected.recipe, examples.length);
    const losses: number[] = [];
    for await (const event of trainLoop({ runtime, model, adapter: await inTraining(), examples, options })) {
      if (event.kind === 'step') losses.push(event.loss);
    }
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
  });

  it('token by token with a cache what it computes at once', async () => {
    const adapter = await inTraining();
    const ids = [5, 17, 40, 8, 3, 9];
    const whole = await LossStep.create(runtime, model, adapter, { logits: true });
    const every = Int32Array.from(ids, (_, i) => i);
    const micro = {
      rows: 1,
      length: ids.length,
      ids: Int32Array.from(ids),
      lengths: Int32Array.of(ids.length),
    };
    const { logits } = await whole.run({ ...micro, targetRows: every, targetIds: every });
    await whole.close();
    const decode = await DecodeStep.create(runtime, model, adapter);
    const cache = decode.newCache();
    const vocab = model.config.vocabSize;
    for (const [i, id] of ids.entries()) {
      const row = await decode.run([id], cache);
      expect(relativeError(row, logits!.data.subarray(i * vocab, (i + 1) * vocab))).toBeLessThan(1e-5);
    }
    await decode.close();
  });
});

describe('packed rows', () => {
  it.each(['prefix', 'prompt'])(
    'have the losses of unpacked ones behind a %s, with a sliding window too',
    async (name) => {
      for (const base of ['qwen2', 'mistral']) {
        const model = await openModel(golden(`fixtures/${base}`));
        const method = methodNamed(name);
        const adapter = await createAdapter(method, method.parse('c', { numVirtualTokens: 3 }), model, 1);
        const lossOf = async (packed: boolean, micro: Parameters<LossStep['run']>[0]) => {
          const step = await LossStep.create(runtime, model, adapter, { packed });
          const { losses } = await step.run(micro);
          await step.close();
          return losses.data;
        };
        const [a, b] = [Int32Array.of(5, 17, 40, 8, 3, 9), Int32Array.of(7, 2, 11)];
        const every = (n: number) => Int32Array.from({ length: n }, (_, i) => i);
        const alone = (ids: Int32Array) => ({
          rows: 1,
          length: ids.length,
          ids,
          lengths: Int32Array.of(ids.length),
          targetRows: every(ids.length),
          targetIds: every(ids.length),
        });
        const both = {
          ...alone(Int32Array.of(...a, ...b)),
          targetIds: Int32Array.of(...every(6), ...every(3)),
          starts: Int32Array.of(0, 0, 0, 0, 0, 0, 6, 6, 6),
        };
        const apart = [...(await lossOf(false, alone(a))), ...(await lossOf(false, alone(b)))];
        expect(worstRelativeError([...(await lossOf(true, both))], apart)).toBeLessThan(1e-5);
      }
    },
  );
});
