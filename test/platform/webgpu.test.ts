import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { openModel } from '../../src/models/base.js';
import { TrainStep } from '../../src/train/step.js';

// A whole training step on the WebGPU provider against the CPU's. Needs a GPU or SwiftShader; CI brings the latter
// (scripts/ci-webgpu.sh) and sets LOWRANK_TEST_DEVICE=webgpu, without which this file reports itself skipped.
const fixture = fileURLToPath(new URL('../golden/fixtures/llama3', import.meta.url));

describe.skipIf(process.env.LOWRANK_TEST_DEVICE !== 'webgpu')('WebGPU [needs scripts/ci-webgpu.sh]', () => {
  const runtime = new NodeRuntime();
  afterAll(() => runtime.close());

  it('gives the loss and gradients of the CPU', async () => {
    const model = await openModel(fixture);
    const adapter = await readAdapterFor(`${fixture}/adapter`, model);
    const batch = JSON.parse(readFileSync(`${fixture}/batch.json`, 'utf8'));
    const micro = {
      rows: batch.ids.length,
      length: batch.ids[0].length,
      ids: Int32Array.from(batch.ids.flat()),
      lengths: Int32Array.from(batch.lengths),
      targetRows: Int32Array.from(batch.rows),
      targetIds: Int32Array.from(batch.next_ids),
    };
    const run = async (device: 'cpu' | 'webgpu') => {
      const step = await TrainStep.create(runtime, model, adapter, { device });
      const result = await step.run(micro, 1 / micro.targetIds.length);
      await step.close();
      return result;
    };
    const [cpu, gpu] = [await run('cpu'), await run('webgpu')];
    expect(Math.abs(gpu.loss / cpu.loss - 1)).toBeLessThan(1e-4);
    for (const [name, { data }] of cpu.grads) {
      const other = gpu.grads.get(name)!.data;
      const norm = Math.sqrt(data.reduce((s, v) => s + v * v, 0));
      const off = Math.sqrt(data.reduce((s, v, i) => s + (v - other[i]) ** 2, 0));
      expect(off / norm, name).toBeLessThan(1e-3);
    }
  });
});
