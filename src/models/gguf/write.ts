/** A model's configuration as metadata of a GGUF file, and whether llama.cpp computes the same by it. */
import { UserError } from '../../base/errors.js';
import { Metadata } from '../../formats/gguf/metadata.js';
import type { GgufModel } from '../../formats/gguf/model.js';
import { type GgufWeight, ggufShape } from '../../formats/gguf/rows.js';
import type { GgufField } from '../../formats/gguf/writer.js';
import { architectures } from '../index.js';
import { isLlamaLike, type ModelConfig, type RopeConfig } from '../model.js';
import { inverseFrequencies } from '../rope.js';
import { describe } from '../shape.js';
import { architectureNamed, configOfFile } from './file.js';
import { type GgufForm, writeKeys } from './form.js';
import { ropeFields } from './rope.js';
import { ggufWeights } from './weights.js';

/** How llama.cpp has a model. Throws UserError where it has none like it; `what` would be converted. */
export function ggufFormOf(place: string, { modelType, task }: ModelConfig, what: string): GgufForm {
  const { gguf } = architectures[modelType];
  if (task) {
    throw new UserError(
      `${place}: ${what} ${modelType} for ${task.kind} are not converted: a GGUF file here holds a model that predicts tokens`,
    );
  }
  if (gguf) return gguf;
  throw new UserError(`${place}: ${what} ${modelType} are not converted`);
}

/**
 * What a GGUF file says of a model of that configuration, and how it has its tensors. Throws UserError where llama.cpp would
 * compute something else by it. `place` names the model.
 */
export async function ggufModelOf(
  place: string,
  config: ModelConfig,
): Promise<Pick<GgufModel, 'architecture' | 'vocabSize' | 'fields' | 'weights' | 'factors'>> {
  const form = ggufFormOf(place, config, 'models of type');
  if (form.head === 'tied' && !config.tieWordEmbeddings) {
    throw new UserError(
      `${place}: ${form.name} in llama.cpp has no LM head apart from its embedding, so it is not written as GGUF`,
    );
  }
  const described = describe(config);
  const [rope] = described.network.stream.ropes;
  const { fields: ropes, tables: factors } = rope
    ? ropeFields(place, form, rope)
    : { fields: [], tables: new Map<string, Float32Array>() };
  const fields = [...writeKeys(form.name, form.keys, config), ...ropes];
  const weights = ggufWeights(described, form);
  await refuseOther(place, config, { form, fields, weights, factors });
  return { architecture: form.name, vocabSize: config.vocabSize, fields, weights, factors };
}

interface Written {
  form: GgufForm;
  fields: readonly GgufField[];
  weights: readonly GgufWeight[];
  factors: ReadonlyMap<string, Float32Array>;
}

/** What is compared is called so in errors. */
const CALLED: Readonly<Record<string, string>> = {
  bias: 'biases',
  attention: 'windows and rotary embeddings of layers',
  ropes: 'rotary embeddings',
  rope: 'rotary embeddings',
  scales: 'factors of embeddings, scores, sums or logits',
  softcaps: 'bounds of scores or logits',
  mixtures: 'experts',
  qkNorm: 'norms of queries and keys',
};

/** Throws UserError where the file, read as llama.cpp reads it, is another model than was to be written. */
async function refuseOther(place: string, config: ModelConfig, written: Written): Promise<void> {
  const { form, fields, weights, factors } = written;
  const shapes = new Map<string, readonly number[]>([
    ...weights.map((weight) => [weight.gguf, ggufShape(weight)] as const),
    ...[...factors].map(([name, values]) => [name, [values.length]] as const),
  ]);
  // A file has its real numbers in float32.
  const metadata = new Map(
    fields.map((f) => [f.key, f.type === 'float32' ? Math.fround(f.value) : (f.value as string | number)]),
  );
  const file = {
    name: form.name,
    meta: new Metadata({ path: place, metadata }),
    shapeOf: (tensor: string) => shapes.get(tensor),
    values: async (tensor: string) => factors.get(tensor)!,
  };
  const { described } = await configOfFile(place, file, architectureNamed(form.name, form.hasExperts)!);
  const [own, theirs] = [config, described.config].map((c) => computed(c, form));
  const other = Object.keys(own).find((key) => !isClose(own[key], theirs[key]));
  if (other === undefined) return;
  throw new UserError(
    `${place}: its ${CALLED[other] ?? other} are other than those of ${form.name} in llama.cpp, so it is not written as GGUF`,
  );
}

/** A configuration by what is computed with it. */
function computed(config: ModelConfig, form: GgufForm): Record<string, unknown> {
  const { maxPositions } = config;
  const rope = ({ dim, ...rest }: RopeConfig) => {
    const { scaling } = rest;
    const short = 'originalMaxPositions' in scaling ? scaling.originalMaxPositions : maxPositions;
    return {
      dim,
      tables: [short, maxPositions].map((length) => [...inverseFrequencies({ dim, ...rest }, length)]),
      factor: 'attentionFactor' in scaling ? scaling.attentionFactor : 1,
    };
  };
  const own: Record<string, unknown> = { ...config };
  // Told by the file's name, and by which tensors it has.
  for (const key of ['modelType', 'tieWordEmbeddings']) delete own[key];
  if (isLlamaLike(config)) {
    own.ropes = config.ropes.map(rope);
    own.attention = config.attention.map((layer) => (form.hasWindows ? layer : { rope: layer.rope }));
  }
  if ('rope' in config) own.rope = rope(config.rope as RopeConfig);
  // llama.cpp has one GELU, that by tanh.
  if (typeof own.activation === 'string') own.activation = own.activation.replace(/^gelu.*/, 'gelu');
  return own;
}

/** Equal but for what float32 loses. */
function isClose(a: unknown, b: unknown): boolean {
  if (typeof a === 'number' && typeof b === 'number') return Math.abs(a - b) <= 1e-5 * Math.abs(a);
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  const of = (value: object, key: string) => (value as Record<string, unknown>)[key];
  return [...keys].every((key) => isClose(of(a, key), of(b, key)));
}

/** What to tell of a model whose windows llama.cpp leaves out; undefined where it does not. */
export function ggufNotice({ folder, config }: { folder: string; config: ModelConfig }): string | undefined {
  const { gguf } = architectures[config.modelType];
  if (!isLlamaLike(config) || !gguf || gguf.hasWindows) return undefined;
  const { attention, maxPositions } = config;
  const window = Math.min(...attention.map((layer) => layer.window ?? Number.POSITIVE_INFINITY));
  if (window >= maxPositions) return undefined;
  return `${folder}: llama.cpp has no sliding window for ${config.modelType}: texts of more than ${window} tokens come out otherwise there`;
}
