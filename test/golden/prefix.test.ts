import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { f32 } from '../../src/base/tensor.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { methodNamed } from '../../src/methods/index.js';
import { openModel } from '../../src/models/base.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { LossStep } from '../../src/train/step.js';
import { Fixture, LIMITS, openSuite } from './fixture.js';
import { golden, relativeError, runSchema, worstRelativeError } from './reference.js';

// Each folder of fixtures-prefix/ is a PREFIX_TUNING or PROMPT_TUNING adapter with what PEFT computes
// (scripts/parity/make_prefix_fixtures.py).

const expectedSchema = runSchema.extend({
  options: z.object({
    num_virtual_tokens: z.int(),
    prefix_projection: z.boolean().default(false),
    encoder_hidden_size: z.int().optional(),
  }),
});

const { runtime, scratch } = openSuite('prefix');

describe.each(readdirSync(golden('fixtures-prefix')))('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-prefix/${name}`, expectedSchema);
  });

  /** The adapter as it trains: behind a network, where there is one. */
  async function inTraining(): Promise<Adapter> {
    const { expected, model, tensors } = fixture;
    if (!expected.options.prefix_projection) return fixture.load();
    const method = methodNamed('prefix');
    const adapter = await createAdapter(method, method.parse('c', expected.options), model);
    for (const { name: tensor, shape } of adapter.trainables) {
      adapter.values.set(tensor, f32(await tensors.read(tensor), shape));
    }
    return adapter;
  }

  it('logits, of the adapter as it is loaded and as it trains', async () => {
    expect(await fixture.logitsError('logits', await fixture.load())).toBeLessThan(LIMITS.logits);
    expect(await fixture.logitsError('logits', await inTraining())).toBeLessThan(LIMITS.logits);
  });

  it('saved and loaded again: the same keys and values, in the same file', async () => {
    const mine = await fixture.saved(await inTraining(), join(scratch, name));
    const [[ours], [theirs]] = [mine, await fixture.load()].map(({ values }) => [...values.values()]);
    expect(ours.dims).toEqual(theirs.dims);
    expect(relativeError(ours.data, theirs.data)).toBeLessThan(1e-6);
  });

  it('loss and the gradient of all that trains', async () => {
    const fileName = (tensor: string) => tensor.replace(/^.*\./, '');
    await fixture.expectGradients(await inTraining(), fixture.expected.loss, { fileName });
  });

  it('losses of 20 AdamW steps', async () => {
    await fixture.expectRun(await inTraining(), fixture.expected);
  });

  it('token by token with a cache what it computes at once', async () => {
    const adapter = await inTraining();
    const ids = [5, 17, 40, 8, 3, 9];
    const whole = await LossStep.create(runtime, fixture.model, adapter, { logits: true });
    const every = Int32Array.from(ids, (_, i) => i);
    const micro = {
      rows: 1,
      length: ids.length,
      ids: Int32Array.from(ids),
      lengths: Int32Array.of(ids.length),
    };
    const { logits } = await whole.run({ ...micro, targetRows: every, targetIds: every });
    await whole.close();
    const decode = await DecodeStep.create(runtime, fixture.model, adapter);
    const cache = decode.newCache();
    const vocab = fixture.model.config.vocabSize;
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
