import { type F32Tensor, f32, type HostTensor, sizeOf } from '../../base/tensor.js';

// Plain loops over host tensors: what the engine's ops are tested against. Clear first, fast never.

/** Row-major strides of a shape. */
export function stridesOf(dims: readonly number[]): number[] {
  const strides: number[] = new Array(dims.length).fill(1);
  for (let i = dims.length - 2; i >= 0; i--) strides[i] = strides[i + 1] * dims[i + 1];
  return strides;
}

/** Calls `visit` with every index of a shape, in row-major order. */
export function forEachIndex(dims: readonly number[], visit: (index: number[], flat: number) => void): void {
  const total = sizeOf(dims);
  const strides = stridesOf(dims);
  for (let flat = 0; flat < total; flat++) {
    visit(
      dims.map((d, i) => Math.floor(flat / strides[i]) % d),
      flat,
    );
  }
}

/** Flat position in a tensor of shape `dims` of an index of a shape that it broadcasts to. */
export function broadcastOffset(dims: readonly number[], index: readonly number[]): number {
  const strides = stridesOf(dims);
  const shift = index.length - dims.length;
  return dims.reduce((at, d, i) => at + (d === 1 ? 0 : index[i + shift]) * strides[i], 0);
}

/** A float32 tensor of shape `dims` whose elements are computed from their index. */
export function hostFrom(dims: readonly number[], value: (index: number[]) => number): F32Tensor {
  const data = new Float32Array(sizeOf(dims));
  forEachIndex(dims, (index, flat) => {
    data[flat] = value(index);
  });
  return f32(data, dims);
}

/** Elementwise `fn` with NumPy broadcasting. */
export function hostMap(inputs: readonly HostTensor[], fn: (...values: number[]) => number): F32Tensor {
  const rank = Math.max(...inputs.map((t) => t.dims.length));
  const dims = Array.from({ length: rank }, (_, i) =>
    Math.max(...inputs.map((t) => t.dims[i - rank + t.dims.length] ?? 1)),
  );
  return hostFrom(dims, (index) => fn(...inputs.map((t) => Number(t.data[broadcastOffset(t.dims, index)]))));
}

export function at(t: HostTensor, index: readonly number[]): number {
  return Number(t.data[broadcastOffset(t.dims, index)]);
}
