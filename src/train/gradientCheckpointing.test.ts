import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { type Adapter, createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { type BaseModel, openModel } from '../models/base.js';
import { batchesOf, type MicroBatch } from './data/batches.js';
import type { Example } from './data/encode.js';
import { nextToken } from './data/nextToken.js';
import { TrainStep, type TrainStepOptions } from './step.js';

// Every method is tried in test/golden/methodsConformance.test.ts; here are packed rows, and what the engine does.

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-checkpointing-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

let model: BaseModel;
let adapter: Adapter;
beforeAll(async () => {
  model = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
  const lora = methodNamed('lora');
  const config = lora.parse('c', { r: 4, targetModules: 'all-linear', initLoraWeights: false });
  adapter = await createAdapter(lora, config, model, 3);
});

const rng = new Rng(5, 'examples');
const examples: Example[] = [5, 17, 9, 6, 12, 4].map((length, line) => ({
  ids: Int32Array.from({ length }, () => rng.below(90)),
  supervised: new Uint8Array(length).fill(1),
  line,
}));
const [{ micro }] = batchesOf(examples, nextToken, {
  batchSize: 6,
  seed: 1,
  epoch: 0,
  microBatchTokens: 64,
  packing: true,
});

async function gradients(part: MicroBatch, options: TrainStepOptions) {
  const step = await TrainStep.create(runtime, model, adapter, options);
  const { grads } = await step.run(part, 1);
  await step.close();
  return grads;
}

describe('gradient checkpointing', () => {
  it.each([true, 1])('changes no gradient of packed rows: %s', async (gradientCheckpointing) => {
    const kept = await gradients(micro[0], { packed: true });
    const again = await gradients(micro[0], { packed: true, gradientCheckpointing });
    for (const [name, { data }] of kept) {
      const scale = data.reduce((max, g) => Math.max(max, Math.abs(g)), 0);
      const other = again.get(name)!.data;
      const difference = data.reduce((max, g, i) => Math.max(max, Math.abs(g - other[i])), 0);
      expect(scale, name).toBeGreaterThan(0);
      expect(difference, name).toBeLessThan(1e-6 * scale);
    }
  });

  it('makes the engine compute a layer again, on the way back and not before', async () => {
    const operators = async (name: string, gradientCheckpointing: boolean | number) => {
      const profile = join(scratch, name);
      await gradients(micro[0], { packed: true, gradientCheckpointing, profile });
      return kernels(name);
    };
    const [kept, again] = [await operators('kept', false), await operators('again', true)];
    const activations = (list: string[]) => list.flatMap((op, i) => (op === 'QuickGelu' ? [i] : []));
    const layers = model.config.layers;
    expect(activations(kept)).toHaveLength(layers);
    expect(activations(again)).toHaveLength(2 * layers);
    expect(activations(await operators('some', 1))).toHaveLength(layers + 1);
    // Only behind the loss, and each only behind the gradient of the layer after it.
    const loss = again.indexOf('Log');
    const sigmoids = again.flatMap((op, i) => (op === 'Sigmoid' ? [i] : []));
    activations(again).forEach((at, i) => {
      if (i < layers) expect(at).toBeLessThan(loss);
      else expect(at).toBeGreaterThan(i === layers ? loss : sigmoids[i - layers - 1]);
    });
  });
});

/** The operators that the engine ran, in order, as its profile of that name tells. */
function kernels(name: string): string[] {
  const file = readdirSync(scratch).find((entry) => entry.startsWith(`${name}_`))!;
  const events: { cat: string; name: string; ts: number; args: { op_name: string } }[] = JSON.parse(
    readFileSync(join(scratch, file), 'utf8'),
  );
  return events
    .filter((event) => event.cat === 'Node' && event.name.endsWith('kernel_time'))
    .sort((a, b) => a.ts - b.ts)
    .map((event) => event.args.op_name);
}
