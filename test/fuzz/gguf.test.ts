/** 100,000 changed GGUF headers: each is read or refused in a sentence, at once, within the memory of its size. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import { readGgufFrom } from '../../src/formats/gguf/reader.js';
import { tokenizerOf } from '../../src/formats/gguf/tokenizer.js';
import { weightEntries } from '../../src/formats/gguf/weights.js';
import { describeGguf } from '../../src/models/gguf/file.js';
import { type Field, Memory, mutateBytes, pick, Tally } from './support.js';

const CASES = 100_000;
/** Of those accepted, how many are also turned into configuration, tokenizer and weights. */
const CONVERT_EACH = 4;

interface Seed {
  name: string;
  bytes: Uint8Array;
  headerEnd: number;
  fields: Field[];
}

/** Where a header's counts, lengths, types and offsets stand. */
function seed(name: string, bytes: Uint8Array): Seed {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields: Field[] = [];
  let at = 4;
  const number = (width: 4 | 8): number => {
    fields.push({ at, width });
    const value = width === 8 ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
    at += width;
    return value;
  };
  const string = () => {
    const length = number(8);
    at += length;
  };
  const widths = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  const value = (type: number): void => {
    if (type === 8) string();
    else if (type === 9) {
      const each = number(4);
      for (let left = number(8); left > 0; left--) value(each);
    } else at += widths[type];
  };
  number(4);
  const [tensors, keys] = [number(8), number(8)];
  for (let i = 0; i < keys; i++) {
    string();
    value(number(4));
  }
  for (let i = 0; i < tensors; i++) {
    string();
    for (let dims = number(4); dims > 0; dims--) number(8);
    number(4);
    number(8);
  }
  return { name, bytes, headerEnd: at, fields };
}

const fixture = (name: string) =>
  seed(
    name,
    readFileSync(fileURLToPath(new URL(`../../src/formats/gguf/fixtures/${name}.gguf`, import.meta.url))),
  );

/** A small file with every value type and some tensors: most of the cases, since it is quick. */
function everyType(): Seed {
  const u32 = (n: number) => new Uint8Array(Uint32Array.of(n).buffer);
  const u64 = (n: number) => new Uint8Array(BigUint64Array.of(BigInt(n)).buffer);
  const text = (s: string) => [u64(s.length), Buffer.from(s)];
  const key = (name: string, type: number, ...rest: Uint8Array[]) => [...text(name), u32(type), ...rest];
  const tensor = (name: string, dims: number[], type: number, offset: number) => [
    ...text(name),
    ...[u32(dims.length), ...dims.map(u64), u32(type), u64(offset)],
  ];
  const header = Buffer.concat([
    ...[Buffer.from('GGUF'), u32(3), u64(3), u64(16)],
    ...[0, 1, 7].flatMap((type) => key(`a${type}`, type, Uint8Array.of(1))),
    ...[2, 3].flatMap((type) => key(`b${type}`, type, Uint8Array.of(1, 2))),
    ...[4, 5, 6].flatMap((type) => key(`c${type}`, type, u32(5))),
    ...[10, 11, 12].flatMap((type) => key(`d${type}`, type, u64(5))),
    ...key('e', 8, ...text('a text')),
    ...key('f', 9, u32(8), u64(2), ...text('x'), ...text('')),
    ...key('g', 9, u32(7), u64(9), new Uint8Array(9)),
    ...key('h', 9, u32(9), u64(2), u32(5), u64(1), u32(4), u32(12), u64(0)),
    ...key('general.alignment', 4, u32(32)),
    ...[tensor('u', [3, 2], 0, 0), tensor('v', [32], 2, 32), tensor('w', [256, 1], 14, 64)].flat(),
  ]);
  const bytes = Buffer.concat([header, Buffer.alloc(((32 - (header.length % 32)) % 32) + 288, 1)]);
  return seed('every type', Uint8Array.from(bytes));
}

describe('changed GGUF files', () => {
  it(`${CASES} headers`, { timeout: 300_000 }, async () => {
    const models = ['llama-bpe', 'llama-spm', 'qwen2', 'qwen3'].map(fixture);
    const small = everyType();
    const tally = new Tally();
    const rng = new Rng(2026, 'changed GGUF headers');
    for (let i = 0; i < CASES; i++) {
      const { name, bytes, headerEnd, fields } = rng.below(10) < 6 ? small : pick(rng, models);
      const changed = mutateBytes(rng, bytes, headerEnd, fields);
      await tally.run(
        changed.length,
        () => `case ${i}, from ${name}`,
        async () => {
          const gguf = await readGgufFrom('x.gguf', new Memory(changed), changed.length);
          if (name === small.name || i % CONVERT_EACH > 0) return;
          const { config, weights } = await describeGguf(gguf);
          tokenizerOf(gguf);
          weightEntries(gguf, config.model_type, weights, 'float32');
        },
      );
    }
    tally.expectBoth(CASES / 20);
  });
});
