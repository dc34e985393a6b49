// What a LoRA step has to multiply, and what the machine's own GEMM reaches.
import { performance } from 'node:perf_hooks';
import { f32 } from '../dist/base/tensor.js';
import { compile } from '../dist/graph/emit.js';
import { input, matmul } from '../dist/graph/ops/index.js';

/**
 * Floating-point operations of the products of one step of batch × seq tokens, all linear layers adapted, every
 * position supervised: forward and backward through the frozen matrices and the head (no gradient of those matrices),
 * attention with its masked half counted as needless, A and B in both directions.
 */
export function stepFlops(c, { batch, seq, r }) {
  const tokens = batch * seq;
  const q = c.heads * c.headDim;
  const kv = c.kvHeads * c.headDim;
  const [h, i] = [c.hiddenSize, c.intermediateSize];
  const shapes = [
    [h, q],
    [h, kv],
    [h, kv],
    [q, h],
    [h, i],
    [h, i],
    [i, h],
  ];
  const frozen = shapes.reduce((n, [a, b]) => n + a * b, 0);
  // x·Aᵀ, u·Bᵀ forward; dy·B, w·A, and the gradients of A and B.
  const low = shapes.reduce((n, [a, b]) => n + 3 * r * (a + b), 0);
  // Scores and weighted values forward, twice that backward, half of it visible.
  const attention = 3 * 2 * q * seq * 0.5;
  return 2 * tokens * (c.layers * (2 * frozen + low + attention) + 2 * h * c.vocabSize);
}

/**
 * Best rate in FLOP/s of plain fp32 products of a training step's shapes (512 × 576 × 1536 and back), in this process: ten of
 * each in one graph, so that moving data to and from the engine does not count.
 */
export async function gemmPeak(runtime) {
  const [m, k, n, pairs] = [512, 576, 1536, 10];
  const w = input('w', 'float32', [n, k]);
  let y = input('x', 'float32', [m, k]);
  for (let i = 0; i < pairs; i++) y = matmul(matmul(y, w, { transB: true }), w);
  const session = await runtime.load(compile({ y }));
  const feeds = {
    x: f32(new Float32Array(m * k).fill(1), [m, k]),
    w: f32(new Float32Array(n * k).fill(1e-3), [n, k]),
  };
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 10; i++) {
    const start = performance.now();
    await session.run(feeds, ['x', 'w']);
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  await session.close();
  return (pairs * 4 * m * k * n) / best;
}
