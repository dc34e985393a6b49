/**
 * Adapters that `lowrank convert` writes for llama.cpp, loaded by llama.cpp (node-llama-cpp) on the same base: greedy
 * tokens and the logits of every position against lowrank's own, for adapters whose scale is told in each of PEFT's ways.
 *
 *     npm run build
 *     npm install --prefix /some/folder node-llama-cpp
 *     node scripts/parity/llamacpp_adapter.mjs base.gguf --modules /some/folder
 *
 * llama.cpp rounds activations to 8 bits where the base is quantized, so tokens may part there without an adapter too;
 * scripts/parity/gguf_f32.py makes a base with which the two can be compared to the last digits. Exits with 1 when logits
 * differ by more than twice what the base's own do, or tokens where the base's do not.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { convert } from '../../dist/api/convert.js';
import { loadModel } from '../../dist/api/loadModel.js';
import { Rng } from '../../dist/base/rng.js';
import { NodeRuntime } from '../../dist/graph/runtime/node.js';
import { DecodeStep } from '../../dist/serve/decode.js';
import { generateTokens, parseGenerateOptions } from '../../dist/serve/generate.js';
import { LossStep } from '../../dist/train/step.js';

const PROMPT = 'The three largest cities of France are';
const TOKENS = 24;
/** Rounding a quantized base's activations to 8 bits makes 0.04 in SmolLM2-135M; beyond this the base itself is another. */
const SAME_BASE = 0.1;

const ADAPTERS = {
  'plain LoRA': { r: 8, loraAlpha: 16 },
  rsLoRA: { r: 8, loraAlpha: 8, useRslora: true },
  'rsLoRA of two ranks': { r: 8, loraAlpha: 8, useRslora: true, rankPattern: { q_proj: 4, k_proj: 2 } },
  alpha_pattern: { r: 4, loraAlpha: 8, alphaPattern: { k_proj: 2, down_proj: 16 } },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { modules: { type: 'string', default: fileURLToPath(new URL('../..', import.meta.url)) } },
});
const [gguf] = positionals;
const entry = join(resolve(values.modules), 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
if (gguf === undefined || !existsSync(entry)) {
  const why = gguf === undefined ? 'name a base in GGUF' : `node-llama-cpp is not in ${values.modules}`;
  console.error(`${why}; usage: llamacpp_adapter.mjs base.gguf --modules FOLDER`);
  console.error('to install it: npm install --prefix FOLDER node-llama-cpp');
  process.exit(2);
}

const scratch = mkdtempSync(join(tmpdir(), 'lowrank-llamacpp-'));
const { getLlama } = await import(pathToFileURL(entry).href);
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });
const theirs = await llama.loadModel({ modelPath: resolve(gguf) });
const runtime = new NodeRuntime();
const ours = await loadModel(gguf, { onNotice: console.error });
const prompt = [...ours.tokenizer.encode(PROMPT)];

try {
  const base = await compare('base', undefined);
  const limit = 2 * base.error;
  let failed = base.error > SAME_BASE;
  for (const [i, [name, config]] of Object.entries(ADAPTERS).entries()) {
    const adapter = await ours.addLora({ ...config, targetModules: 'all-linear' });
    const folder = join(scratch, `${i}`);
    fill(adapter);
    await ours.saveAdapter(folder);
    await convert(folder, `${folder}.gguf`, { base: gguf });
    const { same, error } = await compare(name, `${folder}.gguf`, base.logits);
    failed ||= (base.same && !same) || error > limit;
  }
  process.exitCode = failed ? 1 : 0;
} finally {
  await runtime.close();
  await ours.close();
  await llama.dispose();
  rmSync(scratch, { recursive: true });
}

/** Random matrices; B's size is such that an adapter changes what is generated and leaves it a text. */
function fill({ values: tensors }) {
  for (const [name, { data, dims }] of tensors) {
    const rng = new Rng(1, name);
    const size = name.endsWith('lora_A') ? 1 / Math.sqrt(dims[1]) : 0.02;
    for (let i = 0; i < data.length; i++) data[i] = size * rng.normal();
  }
}

async function compare(name, lora, baseLogits) {
  const tokens = await ourTokens();
  const ids = [...prompt, ...tokens].slice(0, -1);
  const logits = await ourLogits(ids);
  const there = await theirTokensAndLogits(lora, ids);
  const error = relative(there.logits, logits);
  const same = String(there.tokens) === String(tokens);
  const effect = baseLogits && relative(logits.slice(0, prompt.length), baseLogits.slice(0, prompt.length));
  console.log(
    `${name}: ${same ? `the same ${TOKENS} tokens` : `other tokens: ${there.tokens} for ${tokens}`}; ` +
      `logits of ${ids.length} positions differ by ${error.toExponential(1)}` +
      (effect === undefined ? '' : `; the adapter changes those of the prompt by ${effect.toExponential(1)}`),
  );
  console.log(`  ${JSON.stringify(ours.tokenizer.decode(tokens))}`);
  return { same, error, logits };
}

async function ourTokens() {
  const step = await DecodeStep.create(runtime, ours.base, ours.adapter);
  const options = parseGenerateOptions('llamacpp_adapter', { maxNewTokens: TOKENS });
  const tokens = [];
  for await (const id of generateTokens(step, ours.base.config, prompt, options, [])) tokens.push(id);
  await step.close();
  return tokens;
}

/** Logits of the token behind each of `ids`. */
async function ourLogits(ids) {
  const step = await LossStep.create(runtime, ours.base, ours.adapter, { logits: true });
  const { logits } = await step.run({
    rows: 1,
    length: ids.length,
    ids: Int32Array.from(ids),
    lengths: Int32Array.of(ids.length),
    targetRows: Int32Array.from(ids, (_, i) => i),
    targetIds: new Int32Array(ids.length),
  });
  await step.close();
  const width = ours.base.config.vocabSize;
  return ids.map((_, i) => logits.data.slice(i * width, (i + 1) * width));
}

async function theirTokensAndLogits(lora, ids) {
  const context = await theirs.createContext({
    contextSize: 256,
    batchSize: 256,
    threads: 1,
    lora,
  });
  const sequence = context.getSequence();
  const tokens = [];
  for await (const id of sequence.evaluate(prompt, { temperature: 0 })) {
    tokens.push(id);
    if (tokens.length === TOKENS) break;
  }
  await sequence.clearHistory();
  const asked = ids.map((id) => [id, { generateNext: { logits: true } }]);
  const found = await sequence.controlledEvaluate(asked);
  const logits = found.map(({ next }) => {
    const row = new Float32Array(ours.base.config.vocabSize);
    for (const [id, value] of next.logits) row[id] = value;
    return row;
  });
  await context.dispose();
  return { tokens, logits };
}

/** |value − reference| / |reference| over all rows. */
function relative(value, reference) {
  let difference = 0;
  let size = 0;
  for (const [i, row] of reference.entries()) {
    for (let j = 0; j < row.length; j++) {
      difference += (value[i][j] - row[j]) ** 2;
      size += row[j] ** 2;
    }
  }
  return Math.sqrt(difference / size);
}
