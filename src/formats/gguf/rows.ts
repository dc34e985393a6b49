/** How a model's tensors lie in a GGUF file: under another name, and with rows or values otherwise than a checkpoint has them. */

/** The place in llama.cpp's file of a row of ours. */
export type RowOrder = (row: number) => number;

/** One tensor of a model in a GGUF file and in a checkpoint. */
export interface GgufWeight {
  gguf: string;
  hf: string;
  /** As the network asks for it: [out, in] of a matrix. */
  shape: readonly number[];
  /** The matrix of a linear layer, which an adapter can be for. */
  isLinear: boolean;
  /** Absent: llama.cpp has the rows as we do. */
  rows?: RowOrder;
  /** What llama.cpp's values have more than a checkpoint's. */
  offset?: number;
  /** The checkpoint's file has it as [in, out]. */
  isTransposed?: boolean;
  /** It is one of so many, the matrices of experts, that llama.cpp has in one tensor, one behind the other. */
  part?: { readonly index: number; readonly of: number };
  /** llama.cpp wants it in float32 whatever the other matrices are. */
  isExact?: boolean;
}

/** The shape of the tensor that llama.cpp has it in. */
export function ggufShape({ shape, part }: Pick<GgufWeight, 'shape' | 'part'>): readonly number[] {
  return part ? [part.of, ...shape] : shape;
}

/**
 * The order that llama.cpp's `llama` and its like have for queries and keys: it rotates neighbouring rows of a head,
 * Hugging Face rows half a head apart.
 */
export function interleavedRows(headDim: number): RowOrder {
  const half = headDim / 2;
  return (row) => {
    const inHead = row % headDim;
    return row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
  };
}

/** Queries of all heads, then keys, then values, where a checkpoint has the three of the first head, then of the next. */
export function rowsByKind(heads: number, headDim: number): RowOrder {
  return (row) => {
    const [head, inHead] = [Math.floor(row / (3 * headDim)), row % (3 * headDim)];
    const [kind, at] = [Math.floor(inHead / headDim), inHead % headDim];
    return (kind * heads + head) * headDim + at;
  };
}

/** Rows as llama.cpp has them. */
export function toGgufRows<T extends Float32Array | Uint8Array>(
  values: T,
  rows: number,
  order?: RowOrder,
): T {
  return moved(values, rows, order, (own, theirs) => [own, theirs]);
}

/** Rows as a checkpoint has them: toGgufRows' inverse. */
export function fromGgufRows<T extends Float32Array | Uint8Array>(
  values: T,
  rows: number,
  order?: RowOrder,
): T {
  return moved(values, rows, order, (own, theirs) => [theirs, own]);
}

function moved<T extends Float32Array | Uint8Array>(
  values: T,
  rows: number,
  order: RowOrder | undefined,
  way: (own: number, theirs: number) => readonly [from: number, to: number],
): T {
  if (order === undefined) return values;
  const width = values.length / rows;
  const out = values.slice() as T;
  for (let row = 0; row < rows; row++) {
    const [from, to] = way(row, order(row));
    out.set(values.subarray(from * width, (from + 1) * width), to * width);
  }
  return out;
}
