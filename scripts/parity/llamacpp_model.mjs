/**
 * Models that `lowrank merge` writes as GGUF, loaded by llama.cpp (node-llama-cpp): the ids of texts, and the logits of
 * every position of a generation, against lowrank's own over the same file.
 *
 *     npm run build
 *     npm install --prefix /some/folder node-llama-cpp
 *     node scripts/parity/llamacpp_model.mjs MODEL --modules /some/folder
 *
 * llama.cpp rounds activations to 8 bits where weights are quantized, so logits differ by some hundredths there. Exits with
 * 1 where ids differ, or logits by more.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { loadModel } from '../../dist/api/loadModel.js';
import { Rng } from '../../dist/base/rng.js';
import { NodeRuntime } from '../../dist/graph/runtime/node.js';
import { LossStep } from '../../dist/train/step.js';

const TOKENS = 24;
const LIMITS = { float32: 1e-3, float16: 1e-2, bfloat16: 3e-2, q8_0: 5e-2, q4_0: 1e-1 };
const TEXTS = [
  'The three largest cities of France are',
  "Hello, World! It's what they'll say: I'M, you'Re.",
  'def add(a, b):\n    return a + b  # 12345\n\n\n  x\t= 3.14',
  'Ünïcödé: naïve café, Россия, 日本語, 😀👩‍👩‍👧',
  ' leading and trailing  ',
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { modules: { type: 'string', default: '.' } },
});
const entry = join(resolve(values.modules), 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
const { getLlama } = await import(pathToFileURL(entry).href);
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-llamacpp-'));
process.env.LOWRANK_CACHE = join(scratch, 'cache');
const model = await loadModel(positionals[0]);
const adapter = await model.addLora({ r: 8, loraAlpha: 16, targetModules: 'all-linear' });
for (const [name, { data, dims }] of adapter.values) {
  const rng = new Rng(1, name);
  const size = name.endsWith('lora_A') ? 1 / Math.sqrt(dims[1]) : 0.02;
  for (let i = 0; i < data.length; i++) data[i] = size * rng.normal();
}

try {
  for (const [dtype, limit] of Object.entries(LIMITS)) {
    const path = join(scratch, `${dtype}.gguf`);
    await model.saveMerged(path, { dtype });
    const theirs = await llama.loadModel({ modelPath: path });
    const merged = await loadModel(path);
    const other = TEXTS.filter((text) => {
      const ours = [...merged.tokenizer.encode(text, { addSpecialTokens: false })];
      return String([...theirs.tokenize(text)]) !== String(ours);
    });
    const { text, error } = await compare(theirs, merged);
    console.log(
      `${dtype}: ${other.length} texts with other ids; logits differ by ${error.toExponential(1)} (limit ${limit})`,
    );
    console.log(`  ${JSON.stringify(text)}`);
    if (other.length > 0 || !(error < limit)) process.exitCode = 1;
    await merged.close();
    await theirs.dispose();
  }
} finally {
  await model.close();
  await llama.dispose();
  rmSync(scratch, { recursive: true });
}

/** What llama.cpp generates, and how far the logits of its positions are from lowrank's. */
async function compare(theirs, merged) {
  const prompt = [...merged.tokenizer.encode(TEXTS[0])];
  const context = await theirs.createContext({ contextSize: 256, batchSize: 256, threads: 1 });
  const sequence = context.getSequence();
  const tokens = [];
  for await (const id of sequence.evaluate(prompt, { temperature: 0 })) {
    if (tokens.push(id) === TOKENS) break;
  }
  await sequence.clearHistory();
  const ids = [...prompt, ...tokens];
  const found = await sequence.controlledEvaluate(ids.map((id) => [id, { generateNext: { logits: true } }]));
  await context.dispose();
  const runtime = new NodeRuntime();
  const step = await LossStep.create(runtime, merged.base, undefined, { logits: true });
  const { logits } = await step.run({
    rows: 1,
    length: ids.length,
    ids: Int32Array.from(ids),
    lengths: Int32Array.of(ids.length),
    targetRows: Int32Array.from(ids, (_, i) => i),
    targetIds: new Int32Array(ids.length),
  });
  await step.close();
  await runtime.close();
  const width = merged.base.config.vocabSize;
  let [difference, size] = [0, 0];
  for (const [i, { next }] of found.entries()) {
    for (const [id, value] of next.logits) {
      const ours = logits.data[i * width + id];
      difference += (value - ours) ** 2;
      size += ours ** 2;
    }
  }
  return { text: merged.tokenizer.decode(tokens), error: Math.sqrt(difference / size) };
}
