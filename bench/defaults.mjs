// What the defaults of train teach: three small sets of real rows (chats, prompt and completion, text), one model, and
// some settings each; the held-out loss before and after. Writes bench/results/defaults.json.
// usage: npm run bench:defaults -- [--model DIR] [--sets chats,completions,texts] [--settings NAME,NAME] [--threads N]
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';
import { ggufToHf, loadModel } from '../dist/index.js';
import { wordnetRows } from './data.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    sets: { type: 'string' },
    settings: { type: 'string' },
    threads: { type: 'string' },
    out: { type: 'string', default: join(root, 'bench/results/defaults.json') },
  },
});

const SUBJECTS =
  'ai computers emotion food history literature movies politics psychology science sports'.split(' ');
const QV = { targetModules: 'q_proj,v_proj', r: 8, loraAlpha: 8 };
const ALL = { targetModules: 'all-linear', r: 8, loraAlpha: 16 };
/** In the order in which they are tried; what is in the results already is not tried again. */
const SETTINGS = {
  before: { lora: QV, learningRate: 2e-4, epochs: 1 },
  '1e-3-x5': { lora: ALL, learningRate: 1e-3, epochs: 5 },
  '1e-3-x3': { lora: ALL, learningRate: 1e-3, epochs: 3 },
  '5e-4-x5': { lora: ALL, learningRate: 5e-4, epochs: 5 },
  '2e-3-x5': { lora: ALL, learningRate: 2e-3, epochs: 5 },
};
const BATCH_SIZE = 8;

if (!existsSync(args.model)) {
  await ggufToHf(join(root, '.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf'), args.model, {
    dtype: 'float32',
  });
}
const sets = { chats: chats(), completions: dictionary(), texts: quotes() };
const chosen = (list, all) => (list ? list.split(',') : all);
const results = existsSync(args.out) ? JSON.parse(readFileSync(args.out, 'utf8')) : {};
const model = await loadModel(args.model, args.threads ? { threads: Number(args.threads) } : {});
for (const name of chosen(args.settings, Object.keys(SETTINGS))) {
  for (const set of chosen(args.sets, Object.keys(sets))) {
    results[set] ??= {};
    if (results[set][name]) continue;
    results[set][name] = await measure(sets[set], SETTINGS[name]);
    console.error(set, name, JSON.stringify(results[set][name]));
    write(args.out, `${JSON.stringify(results, null, 1)}\n`);
  }
}
await model.close();

/** One run: held-out losses before and after, the mean training loss of its last quarter, and how long it took. */
async function measure({ train, held }, { lora, ...options }) {
  await model.addLora(lora);
  const heldOut = [];
  const losses = [];
  const started = performance.now();
  for await (const event of model.train({ ...options, batchSize: BATCH_SIZE, data: train, evalData: held })) {
    if (event.kind === 'eval') heldOut.push(round(event.loss));
    if (event.kind === 'step') losses.push(event.loss);
  }
  const last = losses.slice(-Math.ceil(losses.length / 4));
  return {
    steps: losses.length,
    heldOut,
    training: round(last.reduce((sum, loss) => sum + loss, 0) / last.length),
    seconds: Math.round((performance.now() - started) / 1000),
  };
}

/** 48 and 16 questions and answers of a chatbot, out of the `chatterbot-corpus` of PyPI: no answer is there twice. */
function chats() {
  const seen = new Set();
  const fresh = (text) => !seen.has(text) && seen.add(text);
  const rows = SUBJECTS.flatMap((subject) => {
    const text = packed('chatterbot', `chatterbot_corpus/data/english/${subject}.yml`, (folder) => {
      const pip = ['download', '--no-deps', '--quiet', '--dest', folder, 'chatterbot-corpus==1.3.3'];
      execFileSync('python3', ['-m', 'pip', ...pip]);
      const wheel = join(folder, 'chatterbot_corpus-1.3.3-py2.py3-none-any.whl');
      execFileSync('python3', ['-m', 'zipfile', '-e', wheel, folder]);
    });
    return parse(text)
      .conversations.filter(([question, answer]) => answer !== undefined && fresh(question) && fresh(answer))
      .map(([question, answer]) => ({
        messages: [
          { role: 'user', content: String(question) },
          { role: 'assistant', content: String(answer) },
        ],
      }));
  });
  return parted(rows, 48, 16);
}

/** 48 and 16 entries of a dictionary. */
function dictionary() {
  const rows = readFileSync(wordnetRows(root).train, 'utf8').trim().split('\n').map(JSON.parse);
  return parted(rows, 48, 16);
}

/** 32 and 12 quotations, out of npm's `quotesy`. */
function quotes() {
  const text = packed('quotesy', 'package/quotes.json', (folder) => {
    const name = execFileSync('npm', ['pack', '--silent', 'quotesy@1.0.10'], {
      cwd: folder,
      encoding: 'utf8',
    });
    execFileSync('tar', ['xzf', name.trim()], { cwd: folder });
  });
  const rows = JSON.parse(text).map(({ author, text }) => ({ text: `${author}: ${text}` }));
  return parted(rows, 32, 12);
}

/** Evenly out of all rows, and evenly into the two. */
function parted(rows, training, held) {
  const all = training + held;
  const picked = Array.from({ length: all }, (_, i) => rows[Math.floor((i * rows.length) / all)]);
  const isHeld = (i) => Math.floor(((i + 1) * held) / all) > Math.floor((i * held) / all);
  return { train: picked.filter((_, i) => !isHeld(i)), held: picked.filter((_, i) => isHeld(i)) };
}

/** A file of a package, unpacked once. */
function packed(name, file, unpack) {
  const folder = join(root, '.cache/bench', name);
  const path = join(folder, file);
  if (!existsSync(path)) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    unpack(folder);
  }
  return readFileSync(path, 'utf8');
}

function write(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.tmp`, text);
  renameSync(`${path}.tmp`, path);
}

function round(loss) {
  return Number(loss.toFixed(3));
}
