import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { readJson } from '../../src/formats/io/node.js';
import { writeFolderAtomic } from '../../src/formats/io/write.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { ggufToHf } from '../../src/models/gguf/file.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { generateTokens, parseGenerateOptions } from '../../src/serve/generate.js';
import { argmax } from '../../src/serve/processors.js';
import { trainLoop } from '../../src/train/loop.js';
import { causalLm } from '../../src/train/objectives/causalLm.js';
import { globalNorm } from '../../src/train/optimizer.js';
import { parseTrainOptions } from '../../src/train/options.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { fillByFormula, formulaNames } from './formulaAdapter.js';
import {
  golden,
  greedySchema,
  openTensors,
  peftKey,
  ReferenceBatch,
  relativeError,
  runSchema,
  smollm2Gguf,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// SmolLM2-135M, read from its GGUF file, against PyTorch + PEFT: what scripts/parity/live_smollm2.py committed, and
// with LOWRANK_PARITY=live the same script run on what lowrank writes here (scripts/parity/run.sh).

const LOGIT_STRIDE = 192;
const expectedSchema = runSchema.extend({
  lora: z.object({ r: z.int(), lora_alpha: z.number(), target_modules: z.string() }).loose(),
  argmax: z.array(z.int()),
  greedy: greedySchema.extend({ base_tokens: z.array(z.int()) }),
});
const checksSchema = z.object({
  relative_errors: z.record(z.string(), z.number()),
  limits: z.record(z.string(), z.number()),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-smollm2-'));
const folder = join(scratch, 'model');
const lora = methodNamed('lora');
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

/** Losses of the reference's run, by the training loop itself. Changes the adapter in place. */
async function trainedLosses(
  model: BaseModel,
  adapter: Adapter,
  batch: ReferenceBatch,
  expected: z.output<typeof runSchema>,
): Promise<number[]> {
  const examples = batch.examples();
  const options = trainOptions(expected.recipe, examples.length);
  const losses: number[] = [];
  for await (const event of trainLoop({ runtime, model, adapter, objective: causalLm, examples, options })) {
    if (event.kind === 'step') losses.push(event.loss);
  }
  return losses;
}

async function lossAndLogits(model: BaseModel, adapter: Adapter | undefined, batch: ReferenceBatch) {
  const step = await LossStep.create(runtime, model, adapter, { logits: true });
  const { losses, logits } = await step.run(batch.supervised());
  await step.close();
  return { logProbs: losses.data.map((loss) => -loss), logits: logits!.data };
}

async function gradientsOf(model: BaseModel, adapter: Adapter, batch: ReferenceBatch) {
  const step = await TrainStep.create(runtime, model, adapter);
  const micro = batch.supervised();
  const result = await step.run(micro, 1 / micro.targetRows.length);
  await step.close();
  return result;
}

// Seconds each on a quiet machine; the limit is for a busy one.
const timeout = 600_000;

const missing = !existsSync(smollm2Gguf) && process.env.CI !== 'true';
describe.skipIf(missing)('SmolLM2-135M [needs scripts/fetch_models.py]', { timeout }, () => {
  let model: BaseModel;
  let batch: ReferenceBatch;

  beforeAll(async () => {
    await ggufToHf(smollm2Gguf, folder);
    model = await openModel(folder);
    batch = await ReferenceBatch.read(golden('smollm2/fixtures/batch.json'));
  });

  describe('against the committed golden', () => {
    let adapter: Adapter;
    let tensors: Awaited<ReturnType<typeof openTensors>>;
    let expected: z.output<typeof expectedSchema>;

    beforeAll(async () => {
      tensors = await openTensors(golden('smollm2/fixtures/expected.safetensors'));
      expected = await readJson(golden('smollm2/fixtures/expected.json'), expectedSchema);
      const { r, lora_alpha, target_modules } = expected.lora;
      adapter = await createAdapter(lora, lora.parse('golden', { r, lora_alpha, target_modules }), model);
      fillByFormula(adapter, model.config.layers);
    });

    it('log-probabilities of the base', async () => {
      const { logProbs } = await lossAndLogits(model, undefined, batch);
      expect(relativeError(logProbs, await tensors.read('base_log_probs'))).toBeLessThan(1e-4);
    });

    it('logits with the adapter', async () => {
      const { logProbs, logits } = await lossAndLogits(model, adapter, batch);
      const { vocabSize } = model.config;
      expect(relativeError(logProbs, await tensors.read('log_probs'))).toBeLessThan(1e-4);
      const rows = batch.nextIds.map((_, i) => logits.subarray(i * vocabSize, (i + 1) * vocabSize));
      expect(rows.map(argmax)).toEqual(expected.argmax);
      const wanted = await tensors.read('logits');
      const sampled = wanted.map((_, i) => {
        const columns = vocabSize / LOGIT_STRIDE;
        return rows[Math.floor(i / columns)][(i % columns) * LOGIT_STRIDE];
      });
      expect(relativeError(sampled, wanted)).toBeLessThan(1e-4);
    });

    it('loss, and norm and samples of the gradient of every A and B', async () => {
      const { loss, grads } = await gradientsOf(model, adapter, batch);
      expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);

      const names = formulaNames(model.config.layers);
      expect([...grads.keys()].sort()).toEqual([...names].sort());
      const norms = await tensors.read('grad_norms');
      const samples = await tensors.read('grad_samples');
      const count = samples.length / names.length;
      for (const [t, name] of names.entries()) {
        const { data } = grads.get(name)!;
        const norm = globalNorm([grads.get(name)!]);
        expect(Math.abs(norm - norms[t]) / norms[t], name).toBeLessThan(1e-4);
        const difference = Float64Array.from({ length: count }, (_, s) => {
          return data[Math.floor((data.length * s) / count)] - samples[t * count + s];
        });
        // As if the whole tensor had the error of its samples.
        const error = Math.hypot(...difference) * Math.sqrt(data.length / count);
        expect(error / norm, name).toBeLessThan(3e-4);
      }
    });

    it('losses of 20 AdamW steps', async () => {
      const own = await createAdapter(lora, adapter.config, model);
      fillByFormula(own, model.config.layers);
      const losses = await trainedLosses(model, own, batch, expected);
      expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    });

    it('greedy tokens of the base and of the adapter', async () => {
      const { prompt, tokens, base_tokens: baseTokens } = expected.greedy;
      expect(await greedy(undefined, prompt, baseTokens.length)).toEqual(baseTokens);
      expect(await greedy(adapter, prompt, tokens.length)).toEqual(tokens);
    });

    async function greedy(on: Adapter | undefined, prompt: readonly number[], count: number) {
      const step = await DecodeStep.create(runtime, model, on);
      const options = parseGenerateOptions('test', { maxNewTokens: count });
      const out: number[] = [];
      for await (const id of generateTokens(step, model.config, prompt, options, [])) out.push(id);
      await step.close();
      return out;
    }
  });

  describe.runIf(process.env.LOWRANK_PARITY === 'live')('live [needs scripts/parity/run.sh]', () => {
    const adapterFolder = join(scratch, 'adapter');
    const merged = join(scratch, 'merged');
    const out = join(scratch, 'peft');
    let adapter: Adapter;
    let tensors: Awaited<ReturnType<typeof openTensors>>;
    let expected: z.output<typeof runSchema>;

    beforeAll(async () => {
      const config = lora.parse('live', { r: 8, lora_alpha: 16, target_modules: 'all-linear' });
      const trained = await createAdapter(lora, config, model, 1);
      // A few steps, so that B is not zero and what is compared is what a user would have.
      const options = parseTrainOptions('live', { batchSize: 2, maxSteps: 4, learningRate: 2e-3 });
      for await (const _ of trainLoop({
        runtime,
        objective: causalLm,
        model,
        adapter: trained,
        examples: batch.examples(),
        options,
      })) {
        // The loop does the work.
      }
      await writeFolderAtomic(adapterFolder, (temporary) => writeAdapterFolder(temporary, trained, folder));
      adapter = await readAdapterFor(adapterFolder, model);
      await writeMergedModel(merged, runtime, model, adapter);

      const python = golden('../../.venv/bin/python');
      const script = golden('../../scripts/parity/live_smollm2.py');
      const inputs = [
        '--model',
        folder,
        '--adapter',
        adapterFolder,
        '--merged',
        merged,
        '--gguf',
        smollm2Gguf,
      ];
      const files = ['--batch', golden('smollm2/fixtures/batch.json'), '--out', out];
      const { stdout } = await promisify(execFile)(python, [script, 'live', ...inputs, ...files]);
      console.log(stdout.trim());
      tensors = await openTensors(join(out, 'expected.safetensors'));
      expected = await readJson(join(out, 'expected.json'), runSchema);
    }, 3 * timeout);

    it('the converted and the merged folder in transformers', async () => {
      const { relative_errors: errors, limits } = await readJson(join(out, 'checks.json'), checksSchema);
      expect(Object.keys(errors).sort()).toEqual(['gguf_logits', 'merged_logits']);
      for (const [name, error] of Object.entries(errors))
        expect(error, name).toBeLessThanOrEqual(limits[name]);
    });

    it('logits', async () => {
      const { logits } = await lossAndLogits(model, adapter, batch);
      expect(noted('logits', relativeError(logits, await tensors.read('logits')))).toBeLessThan(1e-4);
    });

    it('logits of the merged model', async () => {
      const { logits } = await lossAndLogits(await openModel(merged), undefined, batch);
      const error = relativeError(logits, await tensors.read('logits'));
      expect(noted('logits of the merged model', error)).toBeLessThan(1e-4);
    });

    it('loss and the gradient of every A and B', async () => {
      const { loss, grads } = await gradientsOf(model, adapter, batch);
      expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);
      const reference = tensors.names.filter((n) => n.startsWith('grad.'));
      expect([...grads.keys()].map((n) => `grad.${peftKey(n)}`).sort()).toEqual(reference.sort());
      let worst = 0;
      for (const [name, grad] of grads) {
        const error = relativeError(grad.data, await tensors.read(`grad.${peftKey(name)}`));
        expect(error, name).toBeLessThan(1e-4);
        worst = Math.max(worst, error);
      }
      noted('worst gradient', worst);
    });

    it('losses of 20 AdamW steps', async () => {
      const losses = await trainedLosses(model, adapter, batch, expected);
      expect(noted('losses of 20 steps', worstRelativeError(losses, expected.losses))).toBeLessThan(1e-3);
    });

    /** Prints an error for the reader of a parity run, and returns it. */
    function noted(what: string, error: number): number {
      console.log(`${what}: relative error ${error.toExponential(1)}`);
      return error;
    }
  });
});
