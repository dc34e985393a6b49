// Encoding and decoding of real text, and what a tokenizer takes in memory: node --expose-gc bench/tokenizer.mjs FOLDER
// FOLDER holds tokenizer.json. The text is the pages of docs/ (or the files named behind FOLDER), eight times over with other
// numbers, so that what is kept of words is met as in real data.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadTokenizer } from '../dist/formats/tokenizer.js';

const [folder, ...files] = process.argv.slice(2);
const docs = fileURLToPath(new URL('../docs/', import.meta.url));
const paths =
  files.length > 0
    ? files
    : readdirSync(docs)
        .filter((f) => f.endsWith('.md'))
        .map((f) => docs + f);
const pages = paths.map((path) => readFileSync(path, 'utf8'));
// Rows of about 500 characters, as training has them.
const rows = Array.from({ length: 8 }, (_, i) =>
  pages.map((page) => page.replace(/\d/g, (d) => (Number(d) + i) % 10)),
)
  .flat()
  .flatMap((page) => page.match(/.{1,500}/gsu));
const characters = rows.reduce((sum, row) => sum + row.length, 0);

const used = () => {
  global.gc?.();
  return process.memoryUsage().heapUsed / 2 ** 20;
};
const before = used();
const started = performance.now();
const tokenizer = await loadTokenizer(folder);
const loaded = performance.now() - started;
const kept = used() - before;
console.log(
  `loading: ${loaded.toFixed(0)} ms, ${kept.toFixed(0)} MiB kept, ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB resident`,
);

for (let round = 0; round < 3; round++) {
  const start = performance.now();
  const encoded = rows.map((row) => tokenizer.encode(row));
  const middle = performance.now();
  for (const ids of encoded) tokenizer.decode(ids);
  const end = performance.now();
  const rate = (ms) => `${((characters / ms) * 1e-3).toFixed(2)} million characters/s`;
  const tokens = encoded.reduce((sum, ids) => sum + ids.length, 0);
  console.log(
    `${characters} characters, ${tokens} tokens: encode ${rate(middle - start)}, decode ${rate(end - middle)}`,
  );
}
