/** 100,000 changed safetensors headers: each is read or refused in a sentence, at once, within the memory of its size. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import { readHeaderFrom } from '../../src/formats/safetensors.js';
import { type Field, Memory, mutateBytes, mutateJson, pick, Tally } from './support.js';

const CASES = 100_000;
const LENGTH: Field = { at: 0, width: 8 };

/** A file of `json`, its length in front right or not, and `data` behind it. */
function file(json: string, data: Uint8Array): Uint8Array {
  const text = Buffer.from(json);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Uint8Array.from(Buffer.concat([length, text, data]));
}

/** Every dtype, an empty tensor, a scalar, and metadata. */
const SMALL = {
  __metadata__: { format: 'pt', note: 'é "quoted" \\' },
  a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  'b.c': { dtype: 'BF16', shape: [4], data_offsets: [24, 32] },
  d: { dtype: 'I64', shape: [], data_offsets: [32, 40] },
  e: { dtype: 'BOOL', shape: [0, 9], data_offsets: [40, 40] },
  f: { dtype: 'F8_E4M3', shape: [1, 1, 8], data_offsets: [40, 48] },
};

function split(name: string): { json: string; data: Uint8Array } {
  const bytes = readFileSync(fileURLToPath(new URL(`../golden/fixtures/${name}`, import.meta.url)));
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  return { json: bytes.subarray(8, end).toString(), data: bytes.subarray(end) };
}

describe('changed safetensors files', () => {
  it(`${CASES} headers`, { timeout: 300_000 }, async () => {
    const small = { json: JSON.stringify(SMALL), data: new Uint8Array(48) };
    const real = [split('smollm2/adapter/adapter_model.safetensors'), split('qwen2/model.safetensors')];
    const tally = new Tally();
    const rng = new Rng(2026, 'changed safetensors headers');
    for (let i = 0; i < CASES; i++) {
      const { json, data } = rng.below(10) < 8 ? small : pick(rng, real);
      const whole = file(json, data);
      // The JSON changed with its length right, so that what lies behind is reached too; or the bytes as they come.
      const changed =
        rng.below(2) === 0
          ? file(mutateJson(rng, json), data)
          : mutateBytes(rng, whole, whole.length - data.length, [LENGTH]);
      await tally.run(
        changed.length,
        () => `case ${i}`,
        () => readHeaderFrom('x.safetensors', '/x.safetensors', new Memory(changed), changed.length),
      );
    }
    tally.expectBoth(CASES / 50);
  });
});
