/** How llama.cpp has an architecture: what each file under src/models says of it, as data. */
import type { Metadata } from '../../formats/gguf/metadata.js';
import type { RowOrder } from '../../formats/gguf/rows.js';
import type { GgufField } from '../../formats/gguf/writer.js';
import type { ModelConfig, Role } from '../model.js';

/** What can be asked of a GGUF file, or of one that is yet to be written. */
export interface GgufFile {
  /** llama.cpp's name of its architecture, which is before the keys of its metadata. */
  readonly name: string;
  readonly meta: Metadata;
  shapeOf(tensor: string): readonly number[] | undefined;
  values(tensor: string): Promise<Float32Array>;
}

/** Keys of config.json. */
export type HfKeys = Record<string, unknown>;

/** A number that both a GGUF file's metadata and config.json have. */
export interface GgufKey<C> {
  /** In the metadata, behind the architecture's name. */
  readonly key: string;
  /** In config.json; absent: what it says follows from other keys, and is only written. */
  readonly hf?: string;
  readonly type: 'uint32' | 'float32' | 'bool';
  /** null: not written. */
  value(config: C): number | boolean | null;
  /** What config.json has where a file lacks the key, by what was read before; without this the key must be there. */
  absent?(before: HfKeys): unknown;
  /** The most that a count may be. */
  readonly max?: number;
}

/** Tensors that scale the frequencies of a rotary embedding: one factor each for all lengths, or for short and for long texts. */
export type FactorTables = 'rope_freqs' | 'rope_factors';

/** How llama.cpp has an architecture. */
export interface GgufForm<C extends ModelConfig = ModelConfig> {
  /** `general.architecture`. */
  readonly name: string;
  /** The class of transformers that config.json names. */
  readonly className: string;
  readonly keys: readonly GgufKey<C>[];
  /** The rest of config.json. `read` has what the keys gave. */
  rest(file: GgufFile, read: HfKeys): Promise<HfKeys>;
  /** Which tables it looks at. */
  readonly factors: readonly FactorTables[];
  /** Whether it has windows as config.json tells them; where not, texts longer than one come out otherwise there. */
  readonly hasWindows: boolean;
  /** The order that it has the rows of a layer's matrix and bias in; undefined where that is ours. */
  rows?(config: C, role: Role): RowOrder | undefined;
  /** It has experts; llama.cpp may have a form without under the same name. */
  readonly hasExperts?: true;
  /** What its gains have more than a checkpoint's: Gemma's are kept as w − 1 there. */
  readonly normOffset?: number;
  /** 'own': it needs a head of its own, the embedding's matrix again where that is tied. 'tied': it has none. */
  readonly head?: 'own' | 'tied';
}

/** What the keys of a file say, by config.json's names. Throws UserError on a key that is missing, or no such number. */
export function readKeys<C>(file: GgufFile, keys: readonly GgufKey<C>[]): HfKeys {
  const { meta } = file;
  const read: HfKeys = {};
  for (const { key, hf, type, absent, max } of keys) {
    if (hf === undefined) continue;
    const at = `${file.name}.${key}`;
    if (absent && !meta.has(at)) read[hf] = absent(read);
    else if (type === 'bool') read[hf] = meta.boolean(at);
    else read[hf] = type === 'uint32' ? meta.count(at, undefined, max) : meta.real(at);
    if (read[hf] === undefined) delete read[hf];
  }
  return read;
}

/** The metadata of a configuration. */
export function writeKeys<C>(name: string, keys: readonly GgufKey<C>[], config: C): GgufField[] {
  return keys.flatMap(({ key, type, value }): GgufField[] => {
    const found = value(config);
    if (found === null) return [];
    return [
      type === 'bool'
        ? { key: `${name}.${key}`, type, value: Boolean(found) }
        : { key: `${name}.${key}`, type, value: Number(found) },
    ];
  });
}

/** More than any model has; graphs of more would be built for ever. */
const MAX_LAYERS = 1024;

/** config.json's names of what every decoder has. */
export interface SizeNames {
  positions: string;
  hidden: string;
  inner: string;
  layers: string;
  heads: string;
}

/** The sizes of every decoder. */
export function sizeKeys(names: SizeNames): GgufKey<ModelConfig>[] {
  const count = (
    key: string,
    hf: string,
    value: (c: ModelConfig) => number,
    max?: number,
  ): GgufKey<ModelConfig> => ({ key, hf, type: 'uint32', value, ...(max !== undefined && { max }) });
  return [
    count('block_count', names.layers, (c) => c.layers, MAX_LAYERS),
    count('context_length', names.positions, (c) => c.maxPositions),
    count('embedding_length', names.hidden, (c) => c.hiddenSize),
    count('feed_forward_length', names.inner, (c) => c.intermediateSize),
    count('attention.head_count', names.heads, (c) => c.heads),
  ];
}
