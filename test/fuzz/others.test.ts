/** The other files that come from outside, changed: some thousand cases of each. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, it } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import { type LoraBase, readLoraGguf, writeLoraGguf } from '../../src/formats/gguf/lora.js';
import { interleavedRows } from '../../src/formats/gguf/rows.js';
import { withDeadline } from '../../src/formats/io/deadline.js';
import { checkJson, parseJson } from '../../src/formats/io/json.js';
import type { AdapterTensor } from '../../src/formats/peft.js';
import { checkPeftConfig, peftLoraConfig } from '../../src/formats/peftConfig.js';
import { adapterKey } from '../../src/formats/peftNames.js';
import { Tokenizer, tokenizerConfigSchema, tokenizerJsonSchema } from '../../src/formats/tokenizerCore.js';
import { parseModelConfig } from '../../src/models/index.js';
import { readRows } from '../../src/train/data/rows.js';
import { mutateBytes, mutateJson, pick, Tally } from './support.js';

const here = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'lowrank-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs `cases` changed texts of the files at `paths` through `use`, which is given what was parsed. */
async function fuzzJson(
  cases: number,
  paths: readonly string[],
  use: (place: string, json: unknown) => unknown,
) {
  const texts = paths.map((path) => readFileSync(here(path), 'utf8'));
  const rng = new Rng(2026, paths[0]);
  const tally = new Tally(1 << 24);
  for (let i = 0; i < cases; i++) {
    const bytes = Buffer.from(mutateJson(rng, pick(rng, texts)));
    const place = 'x.json';
    await tally.run(
      bytes.length,
      () => `case ${i}`,
      () => use(place, parseJson(place, bytes)),
    );
  }
  tally.expectBoth(cases / 50);
}

/** The same for files of bytes, over the disk. */
async function fuzzFiles(
  cases: number,
  ending: string,
  files: readonly Uint8Array[],
  use: (path: string) => unknown,
) {
  const rng = new Rng(2026, ending);
  // A page of a table may claim to unpack into more than it does.
  const tally = new Tally(1 << 26);
  for (let i = 0; i < cases; i++) {
    const bytes = mutateBytes(rng, pick(rng, files), Number.POSITIVE_INFINITY, []);
    const path = join(folder, `x${ending}`);
    writeFileSync(path, bytes);
    await tally.run(
      bytes.length,
      () => `case ${i}`,
      () => use(path),
    );
  }
  tally.expectBoth(cases / 50);
}

describe('changed files', () => {
  it('adapter_config.json', { timeout: 60_000 }, () =>
    fuzzJson(
      5000,
      [
        'test/golden/fixtures/smollm2/adapter/adapter_config.json',
        'test/golden/fixtures-methods/qwen2-vera/adapter/adapter_config.json',
      ],
      checkPeftConfig,
    ),
  );

  it('config.json', { timeout: 60_000 }, () =>
    fuzzJson(
      5000,
      ['llama3', 'llama2', 'qwen3', 'mistral'].map((name) => `test/golden/fixtures/${name}/config.json`),
      parseModelConfig,
    ),
  );

  it.each(['bytelevel', 'sentencepiece'])('tokenizer.json (%s)', { timeout: 60_000 }, (name) =>
    fuzzJson(1500, [`src/formats/fixtures/tokenizer/${name}/tokenizer.json`], (place, json) => {
      const parts = { tokenizer: checkJson(place, json, tokenizerJsonSchema), place, deadline: withDeadline };
      const tokenizer = new Tokenizer(parts);
      tokenizer.decode(tokenizer.encode('The quick  brown fox: 12 naïve 日本\n'));
    }),
  );

  it('tokenizer_config.json', { timeout: 60_000 }, async () => {
    const tokenizer = tokenizerJsonSchema.parse(
      JSON.parse(readFileSync(here('src/formats/fixtures/tokenizer/bytelevel/tokenizer.json'), 'utf8')),
    );
    await fuzzJson(
      1000,
      ['src/formats/fixtures/tokenizer/bytelevel/tokenizer_config.json'],
      (place, json) =>
        new Tokenizer({ tokenizer, config: checkJson(place, json, tokenizerConfigSchema), place }),
    );
  });

  it('adapters in GGUF', { timeout: 60_000 }, async () => {
    const site = 'model.layers.0.self_attn.q_proj';
    const layer = { tensor: 'blk.0.attn_q.weight', in: 8, out: 8, rows: interleavedRows(4) };
    const base: LoraBase = {
      place: 'base',
      architecture: 'llama',
      vocabSize: 8,
      layers: new Map([[site, layer]]),
    };
    const matrix = (...shape: [number, number]): AdapterTensor => ({
      shape,
      data: Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => i / 8),
    });
    const tensors = new Map([
      [adapterKey(site, 'lora_A'), matrix(2, 8)],
      [adapterKey(site, 'lora_B'), matrix(8, 2)],
    ]);
    const path = join(folder, 'good.gguf');
    await writeLoraGguf(
      path,
      'adapter',
      { config: peftLoraConfig({ r: 2, target_modules: ['q_proj'] }), tensors },
      base,
    );
    await fuzzFiles(1000, '.gguf', [readFileSync(path)], (changed) => readLoraGguf(changed, base));
  });

  const table = (name: string) => readFileSync(here(`src/train/data/fixtures/${name}.parquet`));
  it('Parquet', { timeout: 60_000 }, () =>
    fuzzFiles(
      1000,
      '.parquet',
      ['pairs.none', 'pairs.snappy', 'pairs.gzip', 'pairs.zstd', 'pairs.lz4', 'pairs.brotli', 'chats'].map(
        table,
      ),
      readRows,
    ),
  );

  it.each(['.csv', '.tsv', '.jsonl'])('%s', { timeout: 60_000 }, (ending) => {
    const line = (cells: string[]) => cells.join(ending === '.tsv' ? '\t' : ',');
    const tabular = [
      ['prompt', 'completion'],
      ['a "b"', 'c'],
      ['"x\ny"', '"1, ""2"""'],
      ['é', '日本'],
    ]
      .map(line)
      .join('\n');
    const json = '{"prompt":"a","completion":"b \\u00e9"}\n{"prompt":"1","completion":""}\n';
    return fuzzFiles(
      600,
      ending,
      [Buffer.from(ending === '.jsonl' ? json : tabular.replace('a "b"', 'ab'))],
      readRows,
    );
  });
});
