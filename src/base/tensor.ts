import { UserError } from './errors.js';

/** Element types of graphs and feeds. */
export type DType = 'float32' | 'int32' | 'int64' | 'bool' | 'uint8';

/** Element types that weights are written in. */
export type StoredDType = (typeof storedDTypes)[number];
export const storedDTypes = ['float32', 'float16', 'bfloat16'] as const;

/** Element types of weights in files that are read. */
export type WeightDType = StoredDType | 'float64';

/** A dense row-major tensor on the host. `int64` holds BigInts, `bool` one byte an element. */
export type HostTensor =
  | { dtype: 'float32'; dims: readonly number[]; data: Float32Array }
  | { dtype: 'int32'; dims: readonly number[]; data: Int32Array }
  | { dtype: 'int64'; dims: readonly number[]; data: BigInt64Array }
  | { dtype: 'bool'; dims: readonly number[]; data: Uint8Array }
  | { dtype: 'uint8'; dims: readonly number[]; data: Uint8Array };

export type F32Tensor = Extract<HostTensor, { dtype: 'float32' }>;

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** A float32 host tensor over `data`. Throws when the sizes disagree. */
export function f32(data: Float32Array, dims: readonly number[]): F32Tensor {
  if (data.length !== sizeOf(dims)) throw new Error(`${data.length} elements do not fill [${dims}]`);
  return { dtype: 'float32', dims, data };
}

/** The first element of a float32 tensor, for scalars such as a loss. */
export function scalarOf(t: HostTensor | undefined): number {
  if (t?.dtype !== 'float32') throw new UserError('expected a float32 scalar');
  return t.data[0];
}

/** The rows of a matrix [rows, columns] as columns. */
export function transposedRows(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) turned[j * rows + i] = values[i * columns + j];
  }
  return turned;
}
