import { type Dim, divDims, mulDims } from '../../base/dims.js';
import type { HostTensor } from '../../base/tensor.js';
import { apply, fixed, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { zerosLike } from './expand.js';
import { gather, scatterAddElements } from './gather.js';
import { at, hostFrom } from './host.js';
import { sum } from './reduce.js';
import { concatOp, reshape, sliceOp } from './shape.js';

// Rows that go to groups which only the values tell: the tokens of each expert of a mixture. All rows are put in the order of
// their groups, cut into one part a group, and put back behind them. How many a group has, the engine learns when it runs.

/** The k largest of each row of x [n, m], and where they stand, int64: [n, k] each, largest first, of equal ones the first. */
export const topKOp: Op<{ k: number }> = {
  infer: ([x], { k }) => {
    if (k > fixed(x.shape[1], 'a row')) throw new Error(`fewer than ${k} values`);
    const shape = [x.shape[0], k];
    return [
      { dtype: x.dtype, shape },
      { dtype: 'int64', shape },
    ];
  },
  emit: (ctx, [x], { k }) => ctx.node('TopK', [x, ctx.int64([k])], { axis: 1 }, { outputs: 2 }),
  vjp: ({ inputs: [x], outputs: [, index] }, [g]) => [g && scatterAddElements(zerosLike(x), index, g)],
  reference: ([x], { k }) => {
    const [n, m] = x.dims;
    const columns = Array.from({ length: n }, (_, i) =>
      Array.from({ length: m }, (_, j) => j)
        .sort((a, b) => at(x, [i, b]) - at(x, [i, a]) || a - b)
        .slice(0, k),
    );
    return [hostFrom([n, k], ([i, j]) => at(x, [i, columns[i][j]])), int64(columns.flat(), [n, k])];
  },
  samples: [{ attrs: { k: 2 }, inputs: [{ dims: [2, 4], values: [1, 4, -2, 3, 0.5, -1, 2, 1.5] }] }],
};

export function topK(x: Tensor, k: number): { values: Tensor; index: Tensor } {
  const [values, index] = apply('topK', topKOp, [x], { k });
  return { values, index };
}

/**
 * How rows come to stand in the order of their groups. groups: int64 [n, k], the groups of each of n rows, so that there are n·k
 * copies. Results, int64: the copy that stands at each place, and the row that it is of [n·k]; the place of each copy [n·k];
 * how many each group has [count].
 */
export const groupedOp: Op<{ count: number }> = {
  infer: ([groups], { count }) => {
    const all = mulDims(...groups.shape);
    return [
      ...Array.from({ length: 3 }, () => ({ dtype: 'int64' as const, shape: [all] })),
      { dtype: 'int64', shape: [count] },
    ];
  },
  emit: (ctx, [groups], { count }, { inputs }) => {
    const flat = ctx.node('Reshape', [groups, ctx.int64([-1])])[0];
    const all = ctx.node('Shape', [flat])[0];
    // A search for all of the smallest is a sort, which keeps the order of equal ones.
    const sorted = (x: string) =>
      ctx.node('TopK', [x, all], { axis: 0, largest: 0, sorted: 1 }, { outputs: 2 })[1];
    const order = sorted(flat);
    const copies = ctx.int64([fixed(inputs[0].shape[1], 'the groups of a row')]);
    const isOf = ctx.node('Equal', [
      ctx.node('Unsqueeze', [flat, ctx.int64([1])])[0],
      ctx.int64(Array.from({ length: count }, (_, i) => i)),
    ])[0];
    const sizes = ctx.node('ReduceSum', [ctx.node('Cast', [isOf], { to: INT64 })[0], ctx.int64([0])], {
      keepdims: 0,
    })[0];
    return [order, ctx.node('Div', [order, copies])[0], sorted(order), sizes];
  },
  vjp: null,
  reference: ([groups], { count }) => {
    const [n, k] = groups.dims;
    const flat = Array.from<number | bigint>(groups.data).map(Number);
    const order = flat.map((_, i) => i).sort((a, b) => flat[a] - flat[b] || a - b);
    return [
      int64(order, [n * k]),
      int64(
        order.map((i) => Math.floor(i / k)),
        [n * k],
      ),
      int64(
        flat.map((_, i) => order.indexOf(i)),
        [n * k],
      ),
      int64(
        Array.from({ length: count }, (_, group) => flat.filter((g) => g === group).length),
        [count],
      ),
    ];
  },
  samples: [
    {
      attrs: { count: 4 },
      inputs: [{ dims: [3, 2], dtype: 'int64', values: [3, 0, 0, 1, 3, 1], constant: true }],
    },
  ],
};

/** TensorProto's number of it. */
const INT64 = 7;

/** Rows by their groups, as `groupedOp` has it. */
export type Grouped = Readonly<Record<'order' | 'rows' | 'places' | 'sizes', Tensor>>;

export function grouped(groups: Tensor, count: number): Grouped {
  const [order, rows, places, sizes] = apply('grouped', groupedOp, [groups], { count });
  return { order, rows, places, sizes };
}

/**
 * y[i, :] = x[rows[i], :], each row of x taken equally often; its copies stand in y where `places` says, one row's behind the
 * other's. So the gradient is a choice of rows, too, and no sum into them. x: [n, d]; y: [n·copies, d].
 */
export const rearrangeOp: Op<null> = {
  infer: ([x, rows]) => [{ dtype: x.dtype, shape: [rows.shape[0], x.shape[1]] }],
  emit: (ctx, [x, rows]) => ctx.node('Gather', [x, rows], { axis: 0 }),
  vjp: ({ inputs: [x, rows, places] }, [g]) => {
    if (!g) return [];
    const back = gather(g, places);
    if (x.shape[0] === rows.shape[0]) return [back];
    const copies = divDims(rows.shape[0], x.shape[0]);
    return [sum(reshape(back, [x.shape[0], copies, x.shape[1]]), 1)];
  },
  reference: ([x, rows]) => [hostFrom([rows.dims[0], x.dims[1]], ([i, j]) => at(x, [at(rows, [i]), j]))],
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [2, 3] },
        { dims: [4], dtype: 'int64', values: [0, 1, 0, 1], constant: true },
        { dims: [4], dtype: 'int64', values: [2, 0, 1, 3], constant: true },
      ],
    },
    {
      attrs: null,
      inputs: [
        { dims: [3, 2] },
        { dims: [3], dtype: 'int64', values: [1, 2, 0], constant: true },
        { dims: [3], dtype: 'int64', values: [2, 0, 1], constant: true },
      ],
    },
  ],
};

export function rearrange(x: Tensor, rows: Tensor, places: Tensor): Tensor {
  return apply('rearrange', rearrangeOp, [x, rows, places], null)[0];
}

/**
 * Rows cut into consecutive parts. x: [n, d]; sizes: int64 [parts], which add up to n, a part may have none; `names` are the
 * symbolic sizes of the parts, each of the whole graph its own.
 */
export const partsOp: Op<{ names: readonly string[] }> = {
  infer: ([x], { names }) => names.map((name) => ({ dtype: x.dtype, shape: [name, ...x.shape.slice(1)] })),
  emit: (ctx, inputs, { names }) => ctx.node('Split', inputs, { axis: 0 }, { outputs: names.length }),
  vjp: ({ inputs: [x, sizes], outputs, attrs: { names } }, grads) => [
    joined(
      outputs.map((y, i) => grads[i] ?? zerosLike(y)),
      sizes,
      { names, whole: x.shape[0] },
    ),
  ],
  sizes: ([x], { names }, sizeAt) =>
    names.map((name) => [name, Math.ceil(sizeAt(x.shape[0]) / names.length)]),
  reference: ([x, sizes]) => {
    let start = 0;
    return Array.from<number | bigint>(sizes.data).flatMap((s) => {
      const size = Number(s);
      start += size;
      return sliceOp.reference([x], { axis: 0, start: start - size, size });
    });
  },
  samples: [],
};

export function parts(x: Tensor, sizes: Tensor, names: readonly string[]): readonly Tensor[] {
  return apply('parts', partsOp, [x, sizes], { names });
}

/** The parts of `parts` put together again; `whole` is the size that they add up to. */
export const joinedOp: Op<{ names: readonly string[]; whole: Dim }> = {
  infer: ([first], { whole }) => [{ dtype: first.dtype, shape: [whole, ...first.shape.slice(1)] }],
  emit: (ctx, inputs) => ctx.node('Concat', inputs.slice(0, -1), { axis: 0 }),
  vjp: ({ inputs, attrs: { names } }, [g]) => (g ? [...parts(g, inputs.at(-1)!, names), undefined] : []),
  reference: (inputs) => concatOp.reference(inputs.slice(0, -1), { axis: 0 }),
  samples: [],
};

export function joined(
  all: readonly Tensor[],
  sizes: Tensor,
  attrs: { names: readonly string[]; whole: Dim },
): Tensor {
  return apply('joined', joinedOp, [...all, sizes], attrs)[0];
}

function int64(values: readonly number[], dims: readonly number[]): HostTensor {
  return { dtype: 'int64', dims: [...dims], data: BigInt64Array.from(values, BigInt) };
}
