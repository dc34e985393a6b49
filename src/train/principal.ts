/** The directions in which the inputs of layers vary most. */
import { leading, leadingEigen, type SymmetricOperator } from '../base/linalg/eigen.js';
import { type Matrix, matrix, toFloat32 } from '../base/linalg/matrix.js';
import type { Eigen } from '../base/linalg/symmetric.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { Turns, type WorkOptions } from '../base/work.js';
import { compile } from '../graph/emit.js';
import { input, matmul } from '../graph/ops/index.js';
import type { Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import type { Site } from '../models/model.js';
import type { Batch } from './data/batches.js';
import { InputMoments, type Moments } from './inputMoments.js';

/** Sites that one tensor enters, and how many of its directions are looked for. */
export interface InputGroup {
  readonly sites: readonly Site[];
  readonly components: number;
}

/** What is found of one. */
export interface Directions {
  /** Of the scatter matrix, largest first. */
  readonly eigen: Eigen;
  /** Which part of the variance each explains. */
  readonly ratios: readonly number[];
  /** Rows to look on from, these and some more. */
  readonly followed: Matrix;
}

export interface Principal {
  /** Of each group. */
  readonly found: readonly Directions[];
  /** Batches and tokens that were looked at. */
  readonly batches: number;
  readonly tokens: number;
  /** Whether the directions in use had settled, so that more batches would change little. */
  readonly settled: boolean;
}

export interface PrincipalOptions extends SessionOptions, Pick<WorkOptions, 'signal'> {
  /** Cosine to what a direction was a batch before, from which on it has settled. */
  tau: number;
  /** How many directions of each group are in use, given what is found so far. */
  inUse(found: readonly Directions[]): readonly number[];
  /** Told of the batches looked at. */
  onBatch?(done: number): void;
}

/** After each batch, where the directions of the last are a good start; and at the end. */
const ROUGH = { tolerance: 0.01, iterations: 2 };
const FINE = { tolerance: 0.01, iterations: 16 };

/**
 * Looks at batch after batch until no direction in use moves any more, and gives those of all tokens seen. Memory: a
 * group takes 8·in² bytes, half of them only while a batch is added.
 */
export async function principalInputs(
  runtime: Runtime,
  model: BaseModel,
  groups: readonly InputGroup[],
  batches: Iterable<Batch>,
  { tau, inUse, onBatch, signal, ...session }: PrincipalOptions,
): Promise<Principal> {
  const sites = groups.flatMap((group) => group.sites);
  const moments = await InputMoments.create(runtime, model, sites, session);
  const products = await Products.create(runtime, session);
  const turns = new Turns(signal);
  const found: Directions[] = [];
  const look = async (i: number, precision: typeof ROUGH) => {
    await turns.take();
    const start = found[i]?.followed;
    found[i] = await directionsOf(moments.inputs[i], groups[i].components, products, { start, ...precision });
  };
  try {
    const cosines: number[][] = groups.map(() => []);
    let used: readonly number[] = [];
    const hasSettled = (i: number) =>
      found[i] !== undefined &&
      Array.from({ length: used[i] }, (_, k) => cosines[i][k] ?? -1).every((c) => c >= tau);
    let settled = false;
    let done = 0;
    for (const batch of batches) {
      for (const micro of batch.micro) {
        await turns.take();
        await moments.add(micro);
      }
      for (const i of groups.keys()) {
        if (hasSettled(i)) continue;
        const before = found[i]?.eigen.vectors;
        await look(i, ROUGH);
        if (before) cosines[i] = cosinesOf(before, found[i].eigen.vectors);
      }
      used = inUse(found);
      onBatch?.(++done);
      settled = [...groups.keys()].every(hasSettled);
      if (settled) break;
    }
    for (const i of groups.keys()) await look(i, FINE);
    return { found, batches: done, tokens: moments.inputs[0].tokens, settled };
  } finally {
    await products.close();
    await moments.close();
  }
}

async function directionsOf(
  { scatter }: Moments,
  components: number,
  products: Products,
  options: { start?: Matrix; tolerance: number; iterations: number },
): Promise<Directions> {
  const followed = await leadingEigen(products.operator(scatter), components, options);
  const size = scatter.dims[0];
  let variance = 0;
  for (let i = 0; i < size; i++) variance += scatter.data[i * (size + 1)];
  const eigen = leading(followed, components);
  const ratios = Array.from(eigen.values, (value) => (variance > 0 ? value / variance : 0));
  return { eigen, ratios, followed: followed.vectors };
}

/** |cos| between rows of the same number, all of length 1 (or 0). */
function cosinesOf(a: Matrix, b: Matrix): number[] {
  return Array.from({ length: a.rows }, (_, k) => {
    let dot = 0;
    for (let i = k * a.columns; i < (k + 1) * a.columns; i++) dot += a.data[i] * b.data[i];
    return Math.abs(dot);
  });
}

/** Products of rows with large symmetric matrices, by the engine. */
class Products {
  private constructor(private readonly session: Session) {}

  static async create(runtime: Runtime, options: SessionOptions): Promise<Products> {
    const product = matmul(input('rows', 'float32', ['k', 'n']), input('matrix', 'float32', ['n', 'n']));
    return new Products(await runtime.load(compile({ product }, options.device), options));
  }

  /** Of a symmetric matrix [n, n], which is lent and comes back. */
  operator(lent: F32Tensor): SymmetricOperator {
    return {
      size: lent.dims[0],
      multiply: async (rows) => {
        const fed = f32(toFloat32(rows), [rows.rows, rows.columns]);
        const { product } = await this.session.run({ rows: fed, matrix: lent }, ['matrix']);
        return matrix(rows.rows, rows.columns, (product as F32Tensor).data);
      },
    };
  }

  close(): Promise<void> {
    return this.session.close();
  }
}
