/** Rotary embeddings in the metadata of a GGUF file. */
import { UserError } from '../../base/errors.js';
import { shortestF32 } from '../../formats/gguf/metadata.js';
import type { GgufField } from '../../formats/gguf/writer.js';
import type { RopeConfig } from '../model.js';
import { inverseFrequencies } from '../rope.js';
import { spreadOf } from '../ropeConfig.js';
import type { FactorTables, GgufFile, HfKeys } from './form.js';

/** The tensors with factors of frequencies. */
export const ROPE_TABLES = {
  all: 'rope_freqs.weight',
  long: 'rope_factors_long.weight',
  short: 'rope_factors_short.weight',
} as const;

/** Metadata and tables of a rotary embedding. Throws UserError where llama.cpp has no such one; `place` names the model. */
export function ropeFields(
  place: string,
  { name, factors }: { name: string; factors: readonly FactorTables[] },
  rope: RopeConfig,
): { fields: GgufField[]; tables: Map<string, Float32Array> } {
  const own = (key: string) => `${name}.rope.${key}`;
  const { scaling } = rope;
  const real = (key: string, value: number): GgufField => ({ key: own(key), type: 'float32', value });
  const whole = (key: string, value: number): GgufField => ({ key: own(key), type: 'uint32', value });
  const text = (key: string, value: string): GgufField => ({ key: own(key), type: 'string', value });
  const fields = [whole('dimension_count', rope.dim), real('freq_base', rope.theta)];
  const tables = new Map<string, Float32Array>();
  const refuse = (): never => {
    throw new UserError(
      `${place}: llama.cpp has no rotary embeddings of type ${scaling.type} for ${name}, so it is not written as GGUF`,
    );
  };
  switch (scaling.type) {
    case 'default':
      break;
    case 'linear':
      fields.push(text('scaling.type', 'linear'), real('scaling.factor', scaling.factor));
      break;
    case 'llama3': {
      if (!factors.includes('rope_freqs')) refuse();
      const plain = inverseFrequencies({ ...rope, scaling: { type: 'default' } }, 1);
      const scaled = inverseFrequencies(rope, 1);
      tables.set(
        ROPE_TABLES.all,
        plain.map((f, i) => f / scaled[i]),
      );
      break;
    }
    case 'yarn':
      fields.push(
        text('scaling.type', 'yarn'),
        real('scaling.factor', scaling.factor),
        whole('scaling.original_context_length', scaling.originalMaxPositions),
        real('scaling.yarn_beta_fast', scaling.betaFast),
        real('scaling.yarn_beta_slow', scaling.betaSlow),
      );
      break;
    case 'longrope':
      if (!factors.includes('rope_factors')) refuse();
      fields.push(
        text('scaling.type', 'longrope'),
        whole('scaling.original_context_length', scaling.originalMaxPositions),
        real('scaling.attn_factor', scaling.attentionFactor),
      );
      tables.set(ROPE_TABLES.long, Float32Array.from(scaling.longFactors));
      tables.set(ROPE_TABLES.short, Float32Array.from(scaling.shortFactors));
      break;
    default:
      refuse();
  }
  return { fields, tables };
}

/**
 * What config.json says of a file's rotary embedding: `rope_theta`, `rope_scaling`, and where a scaling starts from another
 * context `original_max_position_embeddings`. Throws UserError on what is not converted.
 */
export async function ropeKeysOf(
  file: GgufFile,
  { positions, dim }: { positions: number; dim: number },
): Promise<HfKeys> {
  const { meta } = file;
  const own = (key: string) => `${file.name}.rope.${key}`;
  const theta = meta.real(own('freq_base'), 10_000);
  const type = meta.has(own('scaling.type')) ? meta.string(own('scaling.type')) : undefined;
  const keys = async (): Promise<HfKeys> => {
    if (type === 'yarn') return { rope_scaling: yarnOf(file, positions) };
    if (file.shapeOf(ROPE_TABLES.long)) return longRopeOf(file, positions);
    if (type === 'longrope') meta.fail(`rope scaling "longrope" is without its tensor "${ROPE_TABLES.long}"`);
    const linear = linearFactor(file, type);
    if (!file.shapeOf(ROPE_TABLES.all))
      return { rope_scaling: linear === 1 ? null : { rope_type: 'linear', factor: linear } };
    if (linear !== 1)
      meta.fail('it has linear rope scaling and rope_freqs.weight, which are not converted together');
    const factors = file.shapeOf(ROPE_TABLES.all)!;
    if (factors.join() !== String(dim / 2))
      meta.fail(`rope_freqs.weight has the shape [${factors.join(', ')}], expected [${dim / 2}]`);
    return { rope_scaling: tableOf(await file.values(ROPE_TABLES.all), { positions, dim, theta }) };
  };
  return { rope_theta: theta, ...(await keys()) };
}

/** As llama.cpp reads it: without a type a factor is linear, 0 and no factor are none, and an older key is looked for too. */
function linearFactor({ meta, name }: GgufFile, type = 'linear'): number {
  if (type !== 'none' && type !== 'linear') {
    meta.fail(`rope scaling "${type}" is not converted, expected none, linear, yarn or longrope`);
  }
  const older = meta.number(`${name}.rope.scale_linear`, 0);
  const factor = meta.real(`${name}.rope.scaling.factor`, older);
  if (factor < 0) meta.fail(`the rope scaling factor is ${factor}, expected one above 0`);
  return type === 'none' || factor === 0 ? 1 : factor;
}

function yarnOf({ meta, name }: GgufFile, positions: number): HfKeys {
  const own = (key: string) => `${name}.rope.scaling.${key}`;
  for (const factor of ['attn_factor', 'yarn_attn_factor', 'yarn_ext_factor']) {
    if (meta.number(own(factor), 1) !== 1) meta.fail(`${own(factor)} is not 1, which is not converted`);
  }
  return {
    rope_type: 'yarn',
    factor: meta.real(own('factor'), 1),
    original_max_position_embeddings: meta.count(own('original_context_length'), positions),
    beta_fast: meta.real(own('yarn_beta_fast'), 32),
    beta_slow: meta.real(own('yarn_beta_slow'), 1),
  };
}

async function longRopeOf(file: GgufFile, positions: number): Promise<HfKeys> {
  const { meta, name } = file;
  const own = (key: string) => `${name}.rope.scaling.${key}`;
  const original = meta.count(own('original_context_length'), positions);
  const [long, short] = await Promise.all(
    [ROPE_TABLES.long, ROPE_TABLES.short].map((t) => decimals(file, t)),
  );
  const attention = meta.real(own('attn_factor'), 1);
  const usual = spreadOf(positions / original, original);
  return {
    original_max_position_embeddings: original,
    rope_scaling: {
      rope_type: 'longrope',
      long_factor: long,
      short_factor: short,
      original_max_position_embeddings: original,
      ...(Math.abs(attention / usual - 1) > 1e-6 && { attention_factor: attention }),
    },
  };
}

async function decimals(file: GgufFile, tensor: string): Promise<number[]> {
  if (!file.shapeOf(tensor)) file.meta.fail(`tensor "${tensor}" is missing`);
  return [...(await file.values(tensor))].map(shortestF32);
}

/**
 * A file keeps only what Llama 3's scaling leads to; of its parameters only `factor` varies between Meta's models. Other
 * tables are the factors of longrope, the same for all lengths.
 */
function tableOf(
  found: Float32Array,
  { positions, dim, theta }: { positions: number; dim: number; theta: number },
): HfKeys {
  const factor = shortestF32(found[found.length - 1]);
  const llama3 = { factor, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 };
  const plain = inverseFrequencies({ theta, dim, scaling: { type: 'default' } }, 1);
  const scaled = inverseFrequencies({ theta, dim, scaling: { type: 'llama3', ...llama3 } }, 1);
  const agrees = plain.every((f, i) => Math.abs((found[i] * scaled[i]) / f - 1) < 1e-3);
  if (agrees) {
    return {
      rope_type: 'llama3',
      factor,
      low_freq_factor: llama3.lowFreqFactor,
      high_freq_factor: llama3.highFreqFactor,
      original_max_position_embeddings: llama3.originalMaxPositions,
    };
  }
  const factors = [...found].map(shortestF32);
  return {
    rope_type: 'longrope',
    long_factor: factors,
    short_factor: factors,
    original_max_position_embeddings: positions,
    attention_factor: 1,
  };
}
