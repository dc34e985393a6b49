/** Hidden states of an encoder, and gradients of their product with a fixed cotangent, as the parity suite compares them. */
import { type F32Tensor, f32 } from '../../src/base/tensor.js';
import { compile } from '../../src/graph/emit.js';
import { add, gather, input, mul, reshape, scalar, sum } from '../../src/graph/ops/index.js';
import type { Feeds, Runtime } from '../../src/graph/runtime/session.js';
import type { Tensor } from '../../src/graph/tensor.js';
import { gradients } from '../../src/graph/vjp.js';
import { type Adapter, adaptedSites } from '../../src/methods/adapter.js';
import { behindPrefix, prefixLength } from '../../src/methods/pastKeys.js';
import type { BaseModel } from '../../src/models/base.js';
import { type Rows, SequenceFeeds } from '../../src/models/feeds.js';
import { trainingStream } from '../../src/models/stream.js';

export interface EncoderStates {
  /** [rows, length, hidden] */
  hidden: Float32Array;
  /** [rows, hidden], where the model has a pooler. */
  pooled?: Float32Array;
  /** By trainable name, where cotangents were given. */
  grads: Map<string, Float32Array>;
}

/** Runs an encoder over rows; with cotangents also back. */
export async function encode(
  runtime: Runtime,
  model: BaseModel,
  rows: Rows,
  {
    adapter,
    packed,
    cotangents,
  }: {
    adapter?: Adapter;
    packed?: boolean;
    cotangents?: { hidden: Float32Array; pooled?: Float32Array };
  } = {},
): Promise<EncoderStates> {
  const { network } = model;
  const { sites, params } = adaptedSites(model, adapter, false);
  const stream = behindPrefix(network.cache, adapter, trainingStream(network, packed), params);
  const hidden = network.forward(sites, stream);
  const first = Int32Array.from({ length: rows.rows }, (_, i) => i * rows.length);
  const feeds: Feeds = {
    ...new SequenceFeeds(network.stream, prefixLength(adapter)).feeds(rows),
    ...(network.pooler && { first: { dtype: 'int32', dims: [first.length], data: first } }),
  };
  const outputs: Record<string, Tensor> = { hidden };
  const pooled = network.pooler?.(sites, gather(hidden, input('first', 'int32', ['rows'])));
  if (pooled) outputs.pooled = pooled;
  const width = model.config.hiddenSize;
  if (cotangents) {
    const product = (name: string, y: Tensor, values: Float32Array) => {
      feeds[name] = f32(values, [values.length / width, width]);
      const [n] = y.shape;
      return sum(sum(mul(y, input(name, 'float32', [n, width])), 1), 0);
    };
    const parts = [product('cotangent', hidden, cotangents.hidden)];
    if (pooled && cotangents.pooled) parts.push(product('pooledCotangent', pooled, cotangents.pooled));
    const total = parts.reduce(add);
    const names = [...params.keys()];
    const grads = gradients(total, reshape(scalar(1), total.shape), [...params.values()]);
    for (const [i, name] of names.entries()) outputs[`grad.${name}`] = grads[i];
  }
  for (const name of params.keys()) feeds[name] = adapter!.values.get(name)!;
  const session = await runtime.load(compile(outputs), { weightsFolder: model.weightsFolder });
  const found = (await session.run(feeds)) as Record<string, F32Tensor>;
  await session.close();
  const grads = Object.entries(found).filter(([name]) => name.startsWith('grad.'));
  return {
    hidden: found.hidden.data,
    ...(found.pooled && { pooled: found.pooled.data }),
    grads: new Map(grads.map(([name, { data }]) => [name.slice('grad.'.length), data])),
  };
}
