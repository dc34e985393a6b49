import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';

const root = mkdtempSync(join(tmpdir(), 'streaming-'));
afterAll(() => rmSync(root, { recursive: true }));
const built = (name: string) => new URL(`../../dist/${name}`, import.meta.url).href;
const tokenizer = fileURLToPath(new URL('../../src/formats/fixtures/tokenizer/bytelevel', import.meta.url));

const ROWS = 80_000;
/** Megabytes; a program that holds the rows and examples of the file below needs some 70. */
const HEAP = 32;

const program = `
import { loadTrainingExamples } from ${JSON.stringify(built('api/data.js'))};
import { loadTokenizer } from ${JSON.stringify(built('formats/tokenizer.js'))};
import { batchesOf } from ${JSON.stringify(built('train/data/batches.js'))};
import { causalLm } from ${JSON.stringify(built('train/objectives/causalLm.js'))};
const [data, folder] = process.argv.slice(1);
const { train, evaluation } = await loadTrainingExamples(
  { data, evalSplit: 1000, seed: 1 },
  causalLm.reading,
  { tokenizer: await loadTokenizer(folder), folder, model: folder },
  { maxLength: 16 },
);
const options = { batchSize: 64, seed: 1, epoch: 0, microBatchTokens: 1024, groupByLength: true };
let examples = 0;
for (const batch of batchesOf(train.examples, causalLm.batching, options)) examples += batch.exampleIndices.length;
console.log(JSON.stringify({ examples, heldOut: evaluation.examples.length }));
`;

it('a file of rows that would not fit is encoded and batched in a small heap', {
  timeout: 60_000,
}, async () => {
  const path = join(root, 'rows.jsonl');
  const file = createWriteStream(path);
  // Blanks in JSON make the file large and cost no time.
  const blanks = ' '.repeat(500);
  for (let i = 0; i < ROWS; i += 1000) {
    const lines = Array.from({ length: 1000 }, (_, k) => `{"text":"${i + k}"${blanks}}\n`);
    if (!file.write(lines.join(''))) await once(file, 'drain');
  }
  file.end();
  await once(file, 'finish');
  const args = [`--max-old-space-size=${HEAP}`, '--input-type=module', '-e', program, path, tokenizer];
  const env = { ...process.env, LOWRANK_CACHE: join(root, 'cache') };
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  expect(JSON.parse(stdout)).toEqual({ examples: ROWS - 1000, heldOut: 1000 });
});
