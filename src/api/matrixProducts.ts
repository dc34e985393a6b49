/** Products of a few rows with the large matrices of a model, by the engine, as the analyses want them. */
import type { Dense } from '../analysis/operator.js';
import {
  energy,
  type Matrix,
  matrix,
  multiplyRows,
  multiplyTransposed,
  toFloat32,
} from '../base/linalg/matrix.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { Turns } from '../base/work.js';
import { compile } from '../graph/emit.js';
import { input, matmul } from '../graph/ops/index.js';
import type { Runtime, Session } from '../graph/runtime/session.js';

/** Multiply-adds between two turns of the event loop. */
const BLOCK = 2e8;

/** Two small graphs that serve matrices of all sizes. */
export class MatrixProducts {
  private constructor(
    private readonly byTransposed: Session,
    private readonly plain: Session,
    private readonly signal: AbortSignal | undefined,
  ) {}

  static async create(runtime: Runtime, signal?: AbortSignal): Promise<MatrixProducts> {
    const load = (inner: 'm' | 'n') => {
      const [rows, held] = [input('rows', 'float32', ['k', inner]), input('matrix', 'float32', ['m', 'n'])];
      return runtime.load(compile({ product: matmul(rows, held, { transB: inner === 'n' }) }));
    };
    return new MatrixProducts(await load('n'), await load('m'), signal);
  }

  /**
   * A matrix M [rows, columns] as the analyses know it. `stored` holds it row-major, or, with `transposed`, its transpose
   * [columns, rows]; it is lent to the engine, and so is this object's alone.
   */
  dense(stored: Float32Array, [rows, columns]: readonly [number, number], transposed = false): Dense {
    const held = f32(stored, transposed ? [columns, rows] : [rows, columns]);
    const by = (session: Session) => async (x: Matrix) => {
      this.signal?.throwIfAborted();
      const { product } = await session.run({ rows: f32(toFloat32(x), [x.rows, x.columns]), matrix: held }, [
        'matrix',
      ]);
      const { dims, data } = product as F32Tensor;
      return matrix(dims[0], dims[1], data);
    };
    return {
      rows,
      columns,
      norm: Math.sqrt(energy(stored)),
      apply: by(transposed ? this.plain : this.byTransposed),
      applyTransposed: by(transposed ? this.byTransposed : this.plain),
      gram: () => this.gram(held, rows <= columns === !transposed),
    };
  }

  /** S·Sᵀ of what is stored, or with `byRows` false Sᵀ·S, in float64 and in turns with the event loop. */
  private async gram({ dims: [rows, columns], data }: F32Tensor, byRows: boolean): Promise<Matrix> {
    const turns = new Turns(this.signal);
    const size = byRows ? rows : columns;
    const total = matrix(size, size);
    const step = Math.max(1, Math.floor(BLOCK / size ** 2));
    const length = byRows ? columns : rows;
    for (let from = 0; from < length; from += step) {
      await turns.take();
      const to = Math.min(length, from + step);
      const part = byRows
        ? columnsOf(data, rows, columns, from, to)
        : matrix(to - from, columns, data.subarray(from * columns, to * columns));
      const added = byRows ? multiplyRows(part, part) : multiplyTransposed(part, part);
      for (let i = 0; i < total.data.length; i++) total.data[i] += added.data[i];
    }
    return total;
  }

  async close(): Promise<void> {
    await this.byTransposed.close();
    await this.plain.close();
  }
}

function columnsOf(data: Float32Array, rows: number, columns: number, from: number, to: number): Matrix {
  const part = matrix(rows, to - from);
  for (let i = 0; i < rows; i++) {
    part.data.set(data.subarray(i * columns + from, i * columns + to), i * (to - from));
  }
  return part;
}
