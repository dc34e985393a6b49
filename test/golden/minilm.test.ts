/** all-MiniLM-L6-v2, the sentence encoder that most people begin with: opened as what its folder says, against transformers. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { loadModel } from '../../src/api/loadModel.js';
import type { Model } from '../../src/api/model.js';
import { readJson } from '../../src/formats/io/node.js';
import { golden, minilm, openTensors, relativeError } from './reference.js';

// What scripts/parity/make_minilm.py committed.
const expectedSchema = z.object({
  texts: z.array(z.string()),
  pairs: z.array(z.object({ query: z.string(), answer: z.string() })),
  loss: z.number(),
  accuracy: z.number(),
});

// Seconds each on a quiet machine; the limit is for a busy one.
const timeout = 600_000;
const missing = !existsSync(minilm) && process.env.CI !== 'true';
describe.skipIf(missing)('all-MiniLM-L6-v2 [needs scripts/fetch_models.py]', { timeout }, () => {
  const scratch = mkdtempSync(join(tmpdir(), 'lowrank-minilm-'));
  let expected: z.output<typeof expectedSchema>;
  let embeddings: Float32Array;
  let model: Model;
  beforeAll(async () => {
    expected = await readJson(golden('minilm/expected.json'), expectedSchema);
    embeddings = await (await openTensors(golden('minilm/expected.safetensors'))).read('embeddings');
    model = await loadModel(minilm);
  }, timeout);
  afterAll(async () => {
    await model.close();
    rmSync(scratch, { recursive: true });
  });

  const flat = (rows: readonly Float32Array[]) => Float32Array.from(rows.flatMap((row) => [...row]));

  it('is a sentence encoder by its modules.json', () => {
    expect(model.base.config.task).toEqual({
      kind: 'embedding',
      pooling: 'mean',
      normalize: true,
      maxLength: 256,
    });
  });

  it('embeds texts of every kind and length', async () => {
    const found = await model.embed(expected.texts);
    expect(found.map(({ length }) => length)).toEqual(expected.texts.map(() => 384));
    expect(relativeError(flat(found), embeddings)).toBeLessThan(1e-5);
    expect(await model.embed([])).toEqual([]);
  });

  it('has the loss of pairs', async () => {
    const { loss, accuracy } = await model.evaluate(expected.pairs);
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-4);
    expect(accuracy).toBe(expected.accuracy);
  });

  it('learns with a LoRA, and is the same merged into a folder', async () => {
    await model.addLora({ r: 4, targetModules: ['attention.q', 'attention.v'] });
    const losses: number[] = [];
    const { pairs: data } = expected;
    for await (const event of model.train({ data, batchSize: 6, maxSteps: 8, learningRate: 2e-3 })) {
      if (event.kind === 'step') losses.push(event.loss);
    }
    expect(losses.at(-1)).toBeLessThan(losses[0] / 2);
    const adapted = flat(await model.embed(expected.texts));
    expect(relativeError(adapted, embeddings)).toBeGreaterThan(1e-3);
    const folder = join(scratch, 'merged');
    await model.saveMerged(folder);
    const merged = await loadModel(folder);
    expect(merged.base.config.task).toEqual(model.base.config.task);
    expect(relativeError(flat(await merged.embed(expected.texts)), adapted)).toBeLessThan(1e-5);
    await merged.close();
  });
});
