import { afterAll, describe, expect, it } from 'vitest';
import { Rng } from '../../base/rng.js';
import { f32, type HostTensor, sizeOf } from '../../base/tensor.js';
import { compile } from '../emit.js';
import type { Device, Sample, SampleInput } from '../op.js';
import { NodeRuntime } from '../runtime/node.js';
import type { Feeds } from '../runtime/session.js';
import { makeNode, type Tensor } from '../tensor.js';
import { gradients } from '../vjp.js';
import { detach, input, mul, opOf, ops } from './index.js';

// Every op of the table: forward against its plain reference, gradient against finite differences of that
// reference. LOWRANK_TEST_DEVICE=webgpu runs the same suite on another provider.
const device = (process.env.LOWRANK_TEST_DEVICE ?? 'cpu') as Device;
const runtime = new NodeRuntime();
afterAll(() => runtime.close());

const LEAVES = ['input', 'weight', 'constant'];
/** Of weights in half precision only, which are no feeds: half.test.ts tries them. */
const OF_WEIGHTS = ['cast', 'castFor', 'matmulHalf'];
/** With sizes that only the engine learns: experts.test.ts tries them. */
const OF_LEARNED_SIZES = ['parts', 'joined'];
const STEP = 1e-3;
/** What WGSL allows sin and cos to be off, absolutely, within [-π, π]. */
const WGSL_SINE = 2 ** -11;
const isCoarse = (name: string) => device === 'webgpu' && (name === 'sin' || name === 'cos');

for (const [name, op] of Object.entries(ops)) {
  if ([...LEAVES, ...OF_WEIGHTS, ...OF_LEARNED_SIZES].includes(name)) continue;
  describe(name, () => {
    it('has samples', () => expect(op.samples.length).toBeGreaterThan(0));
    op.samples.forEach((sample, i) => {
      it(`sample ${i}: forward${op.vjp ? ' and gradient' : ''}`, () => check(name, sample));
    });
  });
}

it('detach: no gradient passes', async () => {
  const x = input('x', 'float32', [2]);
  const [g] = gradients(mul(x, detach(x)), input('seed', 'float32', [2]), [x]);
  const session = await runtime.load(compile({ g }, device), { device });
  const got = await session.run({
    x: f32(Float32Array.of(3, -2), [2]),
    seed: f32(Float32Array.of(1, 10), [2]),
  });
  await session.close();
  expect([...got.g.data]).toEqual([3, -20]);
});

async function check(name: string, sample: Sample<unknown>): Promise<void> {
  const op = opOf(name);
  const values = sample.inputs.map((s, i) => sampleValue(s, `${name} ${i}`));
  const inputs = values.map((v, i) => input(`x${i}`, v.dtype, v.dims));
  const outputs = makeNode(name, inputs, sample.attrs, op.infer(inputs, sample.attrs));
  const results: Record<string, Tensor> = {};
  for (const [i, y] of outputs.entries()) results[`y${i}`] = y;

  // Gradient of Σ seed ∘ y over the first output.
  const trainable = inputs.filter((_, i) => !sample.inputs[i].constant);
  const seedValue = f32(
    normals(sizeOf(outputs[0].shape as number[]), `${name} seed`),
    outputs[0].shape as number[],
  );
  if (op.vjp) {
    const seed = input('seed', 'float32', outputs[0].shape);
    gradients(outputs[0], seed, trainable).forEach((g, i) => {
      results[`g${inputs.indexOf(trainable[i])}`] = g;
    });
  }

  const graph = compile(results, device);
  const session = await runtime.load(graph, { device });
  const feeds: Feeds = Object.fromEntries(
    [...values.map((v, i) => [`x${i}`, v] as const), ['seed', seedValue] as const].filter(([n]) =>
      graph.inputs.some((x) => x.name === n),
    ),
  );
  const got = await session.run(feeds);
  await session.close();

  const expected = op.reference(values, sample.attrs);
  expected.forEach((e, i) => {
    expect(got[`y${i}`].dims).toEqual(e.dims);
    near(got[`y${i}`], numbers(e), isCoarse(name) ? WGSL_SINE : 1e-4);
  });
  if (!op.vjp) return;
  values.forEach((v, i) => {
    if (sample.inputs[i].constant) return;
    const numeric = numbers(v).map((_, at) => {
      const moved = [STEP, -STEP].map((h) => {
        const data = Float32Array.from(v.data as Float32Array);
        data[at] += h;
        const y = op.reference(
          values.map((w, j) => (j === i ? f32(data, v.dims) : w)),
          sample.attrs,
        )[0];
        return numbers(y).reduce((total, e, k) => total + e * seedValue.data[k], 0);
      });
      return (moved[0] - moved[1]) / (2 * STEP);
    });
    near(got[`g${i}`], numeric, 5e-3);
  });
}

function near(got: HostTensor, expected: number[], tolerance: number): void {
  expect(got.data.length).toBe(expected.length);
  const scale = Math.max(1, ...expected.map(Math.abs));
  expected.forEach((e, i) => {
    expect(Math.abs(Number(got.data[i]) - e) / scale, `element ${i}: ${got.data[i]} for ${e}`).toBeLessThan(
      tolerance,
    );
  });
}

function numbers({ data }: HostTensor): number[] {
  return Array.from<number | bigint>(data).map(Number);
}

function normals(n: number, stream: string): Float32Array {
  const rng = new Rng(11, stream);
  return Float32Array.from({ length: n }, () => rng.normal());
}

function sampleValue(s: SampleInput, stream: string): HostTensor {
  const n = sizeOf(s.dims);
  if (s.dtype === 'int32') return { dtype: 'int32', dims: s.dims, data: Int32Array.from(s.values!) };
  if (s.dtype === 'int64')
    return { dtype: 'int64', dims: s.dims, data: BigInt64Array.from(s.values!, BigInt) };
  if (s.dtype === 'uint8') return { dtype: 'uint8', dims: s.dims, data: Uint8Array.from(s.values!) };
  if (s.dtype === 'bool') return { dtype: 'bool', dims: s.dims, data: Uint8Array.from(s.values!) };
  return f32(s.values ? Float32Array.from(s.values) : normals(n, stream), s.dims);
}
