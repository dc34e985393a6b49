/** What a model has by its configuration alone: no file is looked at. */
import { sizeOf } from '../base/tensor.js';
import { add, gather, input, matmul } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { CacheLayout, Network } from './architecture.js';
import { networkOf } from './index.js';
import type { EmbeddingShape, LinearShape, ModelConfig, NormPlace, Site, Sites } from './model.js';
import { trainingStream } from './stream.js';

/** What can be adapted of a model, and all that it computes with. */
export interface Outline {
  /** Every layer that can be adapted, in the model's order. */
  sites: readonly Site[];
  /** Every tensor that the model uses, by checkpoint name, with its shape. */
  parameters: ReadonlyMap<string, readonly number[]>;
  /** Those that train whatever the method, by checkpoint name: a task's head. */
  trained: readonly string[];
  /** The keys and values of its layers, as a cache or a prefix holds them; null where the layers take none. */
  cache: CacheLayout | null;
}

/** The matrices that a model's files have as [in, out], by checkpoint name. All else sees them as [out, in]. */
export function transposedIn(sites: readonly Site[]): ReadonlySet<string> {
  return new Set(sites.filter(({ layout }) => layout === 'conv1d').map(({ name }) => `${name}.weight`));
}

/** A model without weights. */
export interface Described extends Outline {
  config: ModelConfig;
  network: Network;
  /** Its norms' gains and biases, by checkpoint name. */
  norms: ReadonlyMap<string, NormPlace>;
  /** What a task's head has of them, by checkpoint name; none without a task. */
  head: ReadonlySet<string>;
}

/** A model by its configuration alone, without a file: builds the graph and notes what it asks for. */
export function describe(config: ModelConfig): Described {
  const network = networkOf(config);
  const byName = new Map<string, Site>();
  const parameters = new Map<string, readonly number[]>();
  const norms = new Map<string, NormPlace>();
  const recorder = new BaseSites(
    (name, shape) => {
      parameters.set(name, shape);
      return input(name, 'float32', shape);
    },
    {
      // Some put two inputs through one layer.
      site: (site) => byName.has(site.name) || byName.set(site.name, site),
      norm: (name, place) => norms.set(name, place),
    },
  );
  const hidden = network.forward(recorder, trainingStream(network));
  network.lmHead?.(recorder, hidden);
  network.pooler?.(recorder, hidden);
  const body = new Set(parameters.keys());
  network.head?.logits(recorder, hidden);
  const head = new Set([...parameters.keys()].filter((name) => !body.has(name)));
  const isOwn = (name: string) => name.startsWith(`${network.head!.module}.`);
  const trained = [...head].filter(isOwn);
  const sites = [...byName.values()];
  return { config, network, sites, parameters, norms, head, trained, cache: network.cache };
}

/** Numbers in all of a model's tensors. */
export function parameterCount({ parameters }: Pick<Outline, 'parameters'>): number {
  let total = 0;
  for (const shape of parameters.values()) total += sizeOf(shape);
  return total;
}

/** Is told of what a network asks for. */
interface Visitor {
  site?: (site: Site) => void;
  norm?: (name: string, place: NormPlace) => void;
}

/**
 * Sites that compute what the checkpoint says; `parameter` supplies each tensor by its checkpoint name. The matrix of
 * a tied head is asked for by the embedding's name, and `own` is what it would be called if it were not tied.
 */
export class BaseSites implements Sites {
  constructor(
    private readonly parameter: (name: string, shape: readonly number[], own?: string) => Tensor,
    private readonly visit: Visitor = {},
  ) {}

  linear(name: string, x: Tensor, shape: LinearShape): Tensor {
    const { bias = false } = shape;
    this.visit.site?.({ name, kind: 'linear', ...shape, bias });
    const y = matmul(x, this.parameter(`${name}.weight`, [shape.out, shape.in]), { transB: true });
    return bias ? add(y, this.parameter(`${name}.bias`, [shape.out])) : y;
  }

  tiedLinear(name: string, tiedTo: string, x: Tensor, shape: LinearShape): Tensor {
    this.visit.site?.({ name, kind: 'linear', ...shape, bias: false, tiedTo });
    const matrix = this.parameter(`${tiedTo}.weight`, [shape.out, shape.in], `${name}.weight`);
    return matmul(x, matrix, { transB: true });
  }

  embedding(name: string, ids: Tensor, shape: EmbeddingShape): Tensor {
    this.visit.site?.({ name, kind: 'embedding', ...shape, bias: false });
    return gather(this.parameter(`${name}.weight`, [shape.in, shape.out]), ids);
  }

  param(name: string, shape: readonly number[], norm?: NormPlace): Tensor {
    if (norm) this.visit.norm?.(name, norm);
    return this.parameter(name, shape);
  }
}
