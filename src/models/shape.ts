/** What a model has by its configuration alone: no file is looked at. */
import { sizeOf } from '../base/tensor.js';
import { add, gather, input, matmul } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { decoder, lmHead } from './decoder.js';
import type { DecoderConfig, LinearShape, Site, Sites, Stream } from './model.js';

/** What can be adapted of a model, and all that it computes with. */
export interface Outline {
  /** Every layer that can be adapted, in the model's order. */
  sites: readonly Site[];
  /** Every tensor that the model uses, by checkpoint name, with its shape. */
  parameters: ReadonlyMap<string, readonly number[]>;
}

/** Sites and parameters of a model by its shape alone, without a file: builds the graph and notes what it asks for. */
export function describe(config: DecoderConfig): Outline {
  const sites: Site[] = [];
  const parameters = new Map<string, readonly number[]>();
  const recorder = new BaseSites(
    (name, shape) => {
      parameters.set(name, shape);
      return input(name, 'float32', shape);
    },
    (site) => sites.push(site),
  );
  lmHead(config, recorder, decoder(config, recorder, trainingStream(config)));
  return { sites, parameters };
}

/** Numbers in all of a model's tensors. */
export function parameterCount({ parameters }: Pick<Outline, 'parameters'>): number {
  let total = 0;
  for (const shape of parameters.values()) total += sizeOf(shape);
  return total;
}

/**
 * Sites that compute what the checkpoint says; `parameter` supplies each tensor by its checkpoint name. The matrix of
 * a tied head is asked for by the embedding's name, and `own` is what it would be called if it were not tied.
 */
export class BaseSites implements Sites {
  constructor(
    private readonly parameter: (name: string, shape: readonly number[], own?: string) => Tensor,
    private readonly visit: (site: Site) => void = () => {},
  ) {}

  linear(name: string, x: Tensor, shape: LinearShape): Tensor {
    const bias = shape.bias ?? false;
    this.visit({ name, kind: 'linear', in: shape.in, out: shape.out, bias });
    const y = matmul(x, this.parameter(`${name}.weight`, [shape.out, shape.in]), { transB: true });
    return bias ? add(y, this.parameter(`${name}.bias`, [shape.out])) : y;
  }

  tiedLinear(name: string, tiedTo: string, x: Tensor, shape: LinearShape): Tensor {
    this.visit({ name, kind: 'linear', in: shape.in, out: shape.out, bias: false, tiedTo });
    const matrix = this.parameter(`${tiedTo}.weight`, [shape.out, shape.in], `${name}.weight`);
    return matmul(x, matrix, { transB: true });
  }

  embedding(name: string, ids: Tensor, shape: { in: number; out: number }): Tensor {
    this.visit({ name, kind: 'embedding', in: shape.in, out: shape.out, bias: false });
    return gather(this.parameter(`${name}.weight`, [shape.in, shape.out]), ids);
  }

  param(name: string, shape: readonly number[]): Tensor {
    return this.parameter(name, shape);
  }
}

/**
 * Inputs of a whole-sequence pass: sizes `batch` and `seq` are symbolic. Packed rows have a mask each, others share one.
 */
export function trainingStream(c: DecoderConfig, packed = false): Stream {
  const groups = c.heads / c.kvHeads;
  const keys = groups === 1 ? 'seq' : `${groups}*seq`;
  return {
    ids: input('ids', 'int32', ['batch', 'seq']),
    positions: input('positions', 'int64', ['batch', 'seq']),
    mask: input('mask', 'float32', [packed ? 'batch' : 1, 1, keys, 'seq']),
    cos: input('cos', 'float32', ['table', c.headDim / 2]),
    sin: input('sin', 'float32', ['table', c.headDim / 2]),
  };
}
