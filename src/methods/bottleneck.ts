/** Adapter layers: small networks with a nonlinearity behind a layer of the base (the baselines of the LoRA paper). */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { add, layerNorm, matmul, relu, silu, tanh } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Role, Site } from '../models/model.js';
import { snakeKeys } from './keys.js';
import { type Method, type MethodCard, siteTensor, type Trainable } from './method.js';
import { type Start, uniformStart } from './starts.js';

const ACTIVATIONS = { relu, silu, tanh } satisfies Record<string, (x: Tensor) => Tensor>;
export type NonLinearity = keyof typeof ACTIVATIONS;
const NON_LINEARITIES = Object.keys(ACTIVATIONS) as NonLinearity[];

export interface BottleneckConfig {
  /** Width r of the layer in the middle. */
  bottleneckSize: number;
  nonLinearity: NonLinearity;
}

const options = z.strictObject({
  bottleneck_size: z.int().positive().default(64).describe('adapter layers: width of their middle'),
  non_linearity: z
    .enum(NON_LINEARITIES)
    .default('relu')
    .describe('adapter layers: what stands in their middle'),
});

interface Kind {
  name: string;
  peftType: `LOWRANK_${string}`;
  card: Pick<MethodCard, 'title' | 'paper' | 'parameters'>;
  /** What the layers do that an adapter stands behind. */
  behind: readonly Role[];
  /** Whether it begins with a LayerNorm of its own. */
  normalizes: boolean;
}

const EPSILON = 1e-5;

/**
 * y + U·f(D·y + a) + b behind a layer, before its residual sum: D [r, d] as LoRA's A starts, U [d, r] zero, so that
 * training starts at the base. Where it normalizes, f sees LayerNorm(y). PEFT has no such adapter: the folder is our own.
 */
export function bottleneckMethod({
  name,
  peftType,
  card,
  behind,
  normalizes,
}: Kind): Method<BottleneckConfig> {
  const parse = (place: string, config: unknown): BottleneckConfig => {
    const c = checkJson(place, snakeKeys(config), options);
    return { bottleneckSize: c.bottleneck_size, nonLinearity: c.non_linearity };
  };
  return {
    name,
    card: { ...card, inference: 'two small products in a row, at each adapter', merges: false, peft: null },
    startsAtBase: true,
    options,
    parse,

    select(c, { sites }) {
      const targets = sites.filter(({ role }) => behind.includes(role));
      if (targets.length === 0)
        throw new UserError(`${name} stands behind ${behind.join(' and ')}, and the model has none`);
      if (targets.some(({ expert }) => expert !== undefined))
        throw new UserError(`${name} stands behind the MLP of a layer, and the model has experts there`);
      return targets.flatMap((site) => layers(c, site, normalizes));
    },

    linear(c, { param }, y) {
      const x = normalizes ? layerNorm(y, param('adapter_norm'), param('adapter_norm_bias'), EPSILON) : y;
      const down = add(matmul(x, param('adapter_down'), { transB: true }), param('adapter_down_bias'));
      const up = matmul(ACTIVATIONS[c.nonLinearity](down), param('adapter_up'), { transB: true });
      return add(y, add(up, param('adapter_up_bias')));
    },

    merge(_, { site }) {
      throw new UserError(
        `the ${name} adapter behind ${site.name} has a nonlinearity, so no matrix holds it: generate and eval take it ` +
          'as it is; of what merges, lora is nearest',
      );
    },

    folder: {
      peftType,
      encode: (c) => ({ bottleneck_size: c.bottleneckSize, non_linearity: c.nonLinearity }),
      decode: (_, keys) => keys,
    },
  };
}

function layers({ bottleneckSize: r }: BottleneckConfig, site: Site, normalizes: boolean): Trainable[] {
  const d = site.out;
  const part = (
    name: string,
    shape: readonly number[],
    init: Start = () => new Float32Array(shape.reduce((a, b) => a * b)),
  ): Trainable => siteTensor(site, name, shape, init);
  const norm = [part('adapter_norm', [d], () => new Float32Array(d).fill(1)), part('adapter_norm_bias', [d])];
  return [
    ...(normalizes ? norm : []),
    part('adapter_down', [r, d], uniformStart(r * d, 1 / Math.sqrt(d))),
    part('adapter_down_bias', [r]),
    part('adapter_up', [d, r]),
    part('adapter_up_bias', [d]),
  ];
}
