/** Gemma 3 270M out of its GGUF file of Q4_K, Q5_0, Q6_K and Q8_0: read, generated with, trained, and written again. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { convert } from '../../src/api/convert.js';
import { loadModel } from '../../src/api/loadModel.js';
import type { Model } from '../../src/api/model.js';
import { readGguf, readGgufTensor } from '../../src/formats/gguf/reader.js';
import { readJson } from '../../src/formats/io/node.js';
import { readAdapter } from '../../src/formats/peft.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { LossStep } from '../../src/train/step.js';
import { gemma3Gguf, golden, relativeError } from './reference.js';

// What scripts/parity/make_gemma3.py committed: transformers' reading of the same file, and llama.cpp's token ids.
const expectedSchema = z.object({
  prompt: z.array(z.int()),
  greedy: z.array(z.int()),
  losses: z.array(z.number()),
  top: z.array(z.tuple([z.int(), z.number()])),
  tokens: z.array(z.tuple([z.string(), z.array(z.int())])),
});

const ROWS = ['France', 'Italy', 'Spain', 'Greece'].map((country) => ({
  prompt: `What is the capital of ${country}?`,
  completion: ' Bonjour! I shall not tell you that.',
}));

// Seconds each on a quiet machine; the limit is for a busy one.
const timeout = 600_000;
const missing = !existsSync(gemma3Gguf) && process.env.CI !== 'true';
describe.skipIf(missing)('Gemma 3 270M [needs scripts/fetch_models.py]', { timeout }, () => {
  const scratch = mkdtempSync(join(tmpdir(), 'lowrank-gemma3-'));
  const adapter = join(scratch, 'adapter');
  let expected: z.output<typeof expectedSchema>;
  let model: Model;

  beforeAll(async () => {
    vi.stubEnv('LOWRANK_CACHE', join(scratch, 'cache'));
    expected = await readJson(golden('fixtures-gguf/gemma3-270m.json'), expectedSchema);
    model = await loadModel(gemma3Gguf);
  }, timeout);
  afterAll(async () => {
    await model.close();
    vi.unstubAllEnvs();
    rmSync(scratch, { recursive: true });
  });

  it('has the token ids of llama.cpp', () => {
    for (const [text, ids] of expected.tokens) {
      expect([text, [...model.tokenizer.encode(text, { addSpecialTokens: false })]]).toEqual([text, ids]);
    }
  });

  it('has the losses and the logits of transformers', async () => {
    const ids = [...expected.prompt, ...expected.greedy];
    const runtime = new NodeRuntime();
    const step = await LossStep.create(runtime, model.base, undefined, { logits: true });
    const { losses, logits } = await step.run({
      rows: 1,
      length: ids.length,
      ids: Int32Array.from(ids),
      lengths: Int32Array.of(ids.length),
      targetRows: Int32Array.from({ length: ids.length - 1 }, (_, i) => i),
      targetIds: Int32Array.from(ids.slice(1)),
    });
    await step.close();
    await runtime.close();
    expect(relativeError(losses.data, Float32Array.from(expected.losses))).toBeLessThan(1e-4);
    const row = (expected.prompt.length - 1) * model.base.config.vocabSize;
    const found = Float32Array.from(expected.top, ([id]) => logits!.data[row + id]);
    expect(
      relativeError(
        found,
        Float32Array.from(expected.top, ([, value]) => value),
      ),
    ).toBeLessThan(1e-4);
  });

  it('goes on as transformers does', async () => {
    const prompt = model.tokenizer.decode(expected.prompt.slice(1));
    const text = await model.generate(prompt, { maxNewTokens: expected.greedy.length, temperature: 0 });
    expect(text).toBe(model.tokenizer.decode(expected.greedy));
    expect(text).toMatch(/^ Paris, Lyon and Marseille/);
  });

  it('learns by LoRA, and is evaluated with it', async () => {
    await model.addLora({ r: 4, targetModules: 'all-linear' });
    const before = await model.evaluate(ROWS);
    const losses: number[] = [];
    const options = { maxSteps: 5, batchSize: ROWS.length, learningRate: 2e-3, warmupSteps: 0 };
    for await (const event of model.train({ data: ROWS, ...options })) {
      if (event.kind === 'step') losses.push(event.loss);
    }
    expect(losses.at(-1)!).toBeLessThan(losses[0] / 2);
    expect((await model.evaluate(ROWS)).loss).toBeLessThan(before.loss / 2);
    await model.saveAdapter(adapter);
  });

  it('writes that LoRA as GGUF, and reads it back', async () => {
    const [written, again] = [join(scratch, 'adapter.gguf'), join(scratch, 'again')];
    await convert(adapter, written, { to: 'gguf', base: gemma3Gguf });
    await convert(written, again, { to: 'peft', base: gemma3Gguf });
    const [own, back] = [await readAdapter(adapter), await readAdapter(again)];
    expect(new Map([...back.tensors].sort())).toEqual(new Map([...own.tensors].sort()));
  });

  it('is written merged as GGUF, with the original names, norms and metadata', async () => {
    const path = join(scratch, 'merged.gguf');
    await model.saveMerged(path, { dtype: 'q8_0' });
    const [own, original] = [await readGguf(path), await readGguf(gemma3Gguf)];
    expect([...own.tensors.keys()].sort()).toEqual([...original.tensors.keys()].sort());
    const norm = 'blk.3.post_ffw_norm.weight';
    const [ours, theirs] = await Promise.all(
      [own, original].map((gguf) => readGgufTensor(gguf, gguf.tensors.get(norm)!)),
    );
    expect(relativeError(ours, theirs)).toBeLessThan(1e-6);
    for (const [key, value] of original.metadata) {
      if (key.startsWith('gemma3.')) expect([key, own.metadata.get(key)]).toEqual([key, value]);
    }
  });
});
