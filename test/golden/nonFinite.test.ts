import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensorsHeader } from '../../src/formats/safetensors.js';
import { createAdapter } from '../../src/methods/adapter.js';
import { methodNamed } from '../../src/methods/index.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { Evaluator } from '../../src/train/evaluate.js';
import { trainLoop } from '../../src/train/loop.js';
import { causalLm } from '../../src/train/objectives/causalLm.js';
import { parseTrainOptions } from '../../src/train/options.js';
import { openSuite } from './fixture.js';
import { golden, ReferenceBatch } from './reference.js';

const TENSOR = 'model.layers.1.mlp.down_proj.weight';
const { runtime, scratch } = openSuite('non-finite');
const batch = await ReferenceBatch.read(golden('fixtures/smollm2/batch.json'));

/** The smollm2 fixture with another value in one weight. */
async function broken(name: string, value: number): Promise<BaseModel> {
  const folder = join(scratch, name);
  await cp(golden('fixtures/smollm2'), folder, { recursive: true });
  const path = join(folder, 'model.safetensors');
  const { offset } = (await readSafetensorsHeader(path)).tensors.get(TENSOR)!;
  const bytes = await readFile(path);
  bytes.writeFloatLE(value, offset + 8);
  await writeFile(path, bytes);
  return openModel(folder);
}

const lora = (model: BaseModel) => {
  const method = methodNamed('lora');
  return createAdapter(method, method.parse('lora', {}), model, 0);
};

describe.each([
  ['NaN', Number.NaN],
  ['infinity', Number.POSITIVE_INFINITY],
])('%s in a weight of the base', (name, value) => {
  const cause = `${TENSOR}: 1 of its 1152 values is NaN or infinite`;

  it('ends evaluation, generation and training, and names the tensor', async () => {
    const model = await broken(name, value);
    const loss = await Evaluator.create(runtime, model, undefined, causalLm);
    await expect(loss.run(batch.examples(), 64)).rejects.toThrow(cause);
    await loss.close();
    const step = await DecodeStep.create(runtime, model, undefined);
    await expect(step.run([3, 4], step.newCache())).rejects.toThrow(cause);
    await step.close();
    const adapter = await lora(model);
    const options = parseTrainOptions('test', { batchSize: 4 });
    const run = trainLoop({
      runtime,
      model,
      adapter,
      objective: causalLm,
      examples: batch.examples(),
      options,
    });
    await run.next();
    await expect(run.next()).rejects.toThrow(cause);
  });

  it('is not written', async () => {
    const model = await broken(`${name}-written`, value);
    const out = `${model.folder}-out`;
    for (const adapter of [undefined, await lora(model)]) {
      await expect(writeMergedModel(out, runtime, model, adapter)).rejects.toThrow(
        `cannot write ${out}/model.safetensors: tensor "${TENSOR}": 1 of its 1152 values is NaN or infinite`,
      );
    }
    expect((await readdir(scratch)).filter((file) => file.includes('-out'))).toEqual([]);
  });
});

describe('an adapter that is not finite', () => {
  it('is named', async () => {
    const model = await openModel(golden('fixtures/smollm2'));
    const adapter = await lora(model);
    const [first] = adapter.values.keys();
    adapter.values.get(first)!.data[0] = Number.NaN;
    const loss = await Evaluator.create(runtime, model, adapter, causalLm);
    await expect(loss.run(batch.examples(), 64)).rejects.toThrow(
      `the loss is NaN or infinite: the adapter's ${first}: 1 of its`,
    );
    await loss.close();
  });
});

describe('a cast', () => {
  it('that float16 has no room for is refused, naming tensor and count', async () => {
    const model = await broken('large', 1e5);
    const out = join(scratch, 'half');
    await expect(writeMergedModel(out, runtime, model, undefined, { dtype: 'float16' })).rejects.toThrow(
      `tensor "${TENSOR}": 1 of its 1152 values is NaN or infinite; float16 ends at 65504, bfloat16 and float32 do not`,
    );
    await writeMergedModel(out, runtime, model, undefined, { dtype: 'bfloat16' });
  });
});
