import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { f32, type StoredDType } from '../base/tensor.js';
import { bf16ToF32, encodeF32, f16ToF32 } from '../formats/float16.js';
import { compile } from './emit.js';
import {
  cast,
  crossEntropy,
  expandTo,
  gather,
  input,
  matmul,
  mul,
  scalar,
  sum,
  weight,
} from './ops/index.js';
import { NodeRuntime } from './runtime/node.js';
import type { Tensor } from './tensor.js';
import { gradients } from './vjp.js';

// Weights in half precision compute what the same numbers in float32 do.

const runtime = new NodeRuntime();
const folder = mkdtempSync(join(tmpdir(), 'lowrank-half-'));
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true });
});

/** A matrix on disk, in half precision and as the same numbers in float32. */
function matrices(stored: Exclude<StoredDType, 'float32'>, shape: [number, number]) {
  const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i * 1.7));
  const half = encodeF32(values, stored);
  const codes = new Uint16Array(half.buffer, half.byteOffset, values.length);
  (stored === 'float16' ? f16ToF32 : bf16ToF32)(codes, values);
  const leaf = (dtype: StoredDType, bytes: Uint8Array) => {
    const file = `${stored}-${shape}-${dtype}`;
    writeFileSync(join(folder, file), bytes);
    return weight({ name: file, shape, stored: dtype, file, offset: 0, length: bytes.length });
  };
  return { half: leaf(stored, half), full: leaf('float32', encodeF32(values, 'float32')) };
}

const wave = (dims: number[]) =>
  f32(
    Float32Array.from({ length: dims[0] * dims[1] }, (_, i) => Math.cos(i * 1.3)),
    dims,
  );

for (const stored of ['float16', 'bfloat16'] as const) {
  describe(stored, () => {
    it('gives the products, rows and sums of squares of the same numbers in float32', async () => {
      const { half, full } = matrices(stored, [6, 8]);
      const [x, y] = [input('x', 'float32', ['n', 8]), input('y', 'float32', ['n', 6])];
      const ids = input('ids', 'int32', ['n']);
      const of = (w: Tensor, label: string) => ({
        [`forward${label}`]: matmul(x, w, { transB: true }),
        [`backward${label}`]: matmul(y, w, { alpha: 2 }),
        [`left${label}`]: matmul(w, input('a', 'float32', [8, 3])),
        [`rows${label}`]: gather(w, ids),
        [`squares${label}`]: sum(mul(w, w), 1),
      });
      const graph = compile({ ...of(cast(half, true), ' half'), ...of(full, ' full') });
      const session = await runtime.load(graph, { weightsFolder: folder });
      const out = await session.run({
        x: wave([4, 8]),
        y: wave([4, 6]),
        a: wave([8, 3]),
        ids: { dtype: 'int32', dims: [4], data: Int32Array.of(5, 0, 0, 3) },
      });
      await session.close();
      for (const name of ['forward', 'backward', 'left', 'rows', 'squares']) {
        out[`${name} half`].data.forEach((v, i) => {
          expect(v, name).toBeCloseTo(Number(out[`${name} full`].data[i]), 5);
        });
      }
    });

    it('gives the loss of a head that is cast in pieces, and its gradient', async () => {
      // More than 2²² elements, and more rows than a turn has.
      const { half, full } = matrices(stored, [70_000, 64]);
      const [h, t] = [input('h', 'float32', ['n', 64]), input('t', 'int32', ['n'])];
      const of = (w: Tensor, label: string) => {
        const losses = crossEntropy(matmul(h, w, { transB: true }), t);
        return {
          [`losses ${label}`]: losses,
          [`g ${label}`]: gradients(losses, expandTo(scalar(0.5), losses), [h])[0],
        };
      };
      const graph = compile({ ...of(cast(half, true), 'half'), ...of(full, 'full') });
      const session = await runtime.load(graph, { weightsFolder: folder });
      const data = Int32Array.from({ length: 300 }, (_, i) => (i * 7919) % 70_000);
      const out = await session.run({ h: wave([300, 64]), t: { dtype: 'int32', dims: [300], data } });
      await session.close();
      for (const name of ['losses', 'g']) {
        const expected = out[`${name} full`].data as Float32Array;
        const scale = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
        (out[`${name} half`].data as Float32Array).forEach((v, i) => {
          expect(Math.abs(v - expected[i]) / scale, name).toBeLessThan(1e-5);
        });
      }
    });
  });
}

describe('the engine', () => {
  const x = input('x', 'float32', ['n', 8]);
  const uses: Record<string, (w: Tensor) => Tensor> = {
    'a product with data': (w) => matmul(mul(x, x), w, { transB: true }),
    'a product with parameters': (w) => matmul(input('a', 'float32', [3, 8]), w, { transB: true }),
    'squares of rows': (w) => sum(mul(w, w), 1),
  };

  /** How often it cast the matrix in one run. */
  async function casts(name: string, graph: Record<string, Tensor>): Promise<number> {
    const profile = join(folder, name);
    const session = await runtime.load(compile({ ...graph, total: sum(x, 0) }), {
      weightsFolder: folder,
      profile,
    });
    const feeds = { x: wave([4, 8]), a: wave([3, 8]) };
    await session.run(name.includes('parameters') ? feeds : { x: feeds.x });
    await session.close();
    const file = readdirSync(folder).find((entry) => entry.startsWith(`${name}_`))!;
    const events: { cat: string; name: string; args: { op_name: string } }[] = JSON.parse(
      readFileSync(join(folder, file), 'utf8'),
    );
    return events.filter(
      ({ cat, name, args }) => cat === 'Node' && name.endsWith('kernel_time') && args.op_name === 'Cast',
    ).length;
  }

  it.each(Object.keys(uses))('casts the matrix at every run for %s, where it may not stay', async (use) => {
    const { half } = matrices('float16', [6, 8]);
    expect(await casts(`${use} per use`, { y: uses[use](cast(half, true)) })).toBe(1);
  });
  it('casts it for each of them, and keeps nothing in between', async () => {
    const { half } = matrices('float16', [6, 8]);
    const graph = Object.entries(uses).map(([use, of]) => [use, of(cast(half, true))]);
    expect(await casts('all parameters', Object.fromEntries(graph))).toBe(3);
  });
  it('casts it at load where it may stay', async () => {
    const { half } = matrices('float16', [6, 8]);
    const y = uses['a product with data'](cast(half, false));
    expect(await casts('kept', { y })).toBe(0);
  });
});
