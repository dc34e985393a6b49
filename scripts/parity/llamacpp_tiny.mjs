/**
 * The tiny models of test/golden/fixtures as GGUF, and LoRA adapters for them, in llama.cpp (node-llama-cpp): the logits of
 * every position against lowrank's own.
 *
 *     npm run build
 *     npm install --prefix /some/folder node-llama-cpp
 *     node scripts/parity/llamacpp_tiny.mjs --modules /some/folder [NAME...]
 *
 * llama.cpp keeps keys and values in 16 bits and looks GELU up in a table of 16 bits. Exits with 1 where logits differ by more
 * than LIMIT.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { readAdapterFor } from '../../dist/api/adapterFile.js';
import { convert } from '../../dist/api/convert.js';
import { NodeRuntime } from '../../dist/graph/runtime/node.js';
import { openModel } from '../../dist/models/base.js';
import { LossStep } from '../../dist/train/step.js';

const LIMIT = 2e-3;
const golden = fileURLToPath(new URL('../../test/golden', import.meta.url));
const like = JSON.parse(readFileSync(join(golden, 'fixtures-gguf/keys.json'), 'utf8'));
const cases = [...new Set([...readdirSync(join(golden, 'fixtures')), ...Object.keys(like)])].sort();
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { modules: { type: 'string', default: '.' } },
});
const entry = join(resolve(values.modules), 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
const { getLlama } = await import(pathToFileURL(entry).href);
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-llamacpp-tiny-'));
const runtime = new NodeRuntime();

try {
  for (const name of positionals.length > 0 ? positionals : cases) {
    const { model = name, keys = {} } = like[name] ?? {};
    // Not by its own name: of what is called phi3 llama.cpp wants some tokens.
    const folder = join(scratch, `tiny-${cases.indexOf(name)}`);
    cpSync(join(golden, 'fixtures', model), folder, { recursive: true });
    for (const file of ['tokenizer.json', 'tokenizer_config.json'])
      cpSync(join(golden, 'fixtures-gguf', file), join(folder, file));
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...keys }));
    await convert(folder, `${folder}.gguf`, { to: 'gguf', dtype: 'float32' });
    await convert(join(folder, 'adapter'), `${folder}.lora.gguf`, { to: 'gguf', base: folder });
    const { ids: rows, lengths } = JSON.parse(readFileSync(join(folder, 'batch.json'), 'utf8'));
    const ids = rows[0].slice(0, lengths[0]);
    const base = await openModel(folder);
    const theirs = await llama.loadModel({ modelPath: `${folder}.gguf` });
    for (const lora of [undefined, `${folder}.lora.gguf`]) {
      const own = await ourLogits(base, lora && (await readAdapterFor(join(folder, 'adapter'), base)), ids);
      const error = relativeError(await theirLogits(theirs, lora, ids), own);
      const ok = error < LIMIT;
      if (!ok) process.exitCode = 1;
      console.log(
        `${ok ? 'ok    ' : 'DIFFER'} ${name}${lora ? ' with an adapter' : ''}: ${error.toExponential(1)}`,
      );
    }
    await theirs.dispose();
  }
} finally {
  await llama.dispose();
  await runtime.close();
  rmSync(scratch, { recursive: true });
}

async function theirLogits(model, lora, ids) {
  const context = await model.createContext({
    contextSize: 64,
    batchSize: 64,
    threads: 1,
    ...(lora && { lora: { adapters: [{ filePath: lora }] } }),
  });
  const sequence = context.getSequence();
  const found = await sequence.controlledEvaluate(ids.map((id) => [id, { generateNext: { logits: true } }]));
  await context.dispose();
  return found.map(({ next }) => next.logits);
}

async function ourLogits(model, adapter, ids) {
  const step = await LossStep.create(runtime, model, adapter, { logits: true });
  const { logits } = await step.run({
    rows: 1,
    length: ids.length,
    ids: Int32Array.from(ids),
    lengths: Int32Array.of(ids.length),
    targetRows: Int32Array.from(ids, (_, i) => i),
    targetIds: new Int32Array(ids.length),
  });
  await step.close();
  return logits.data;
}

function relativeError(theirs, own) {
  const width = own.length / theirs.length;
  let [difference, size] = [0, 0];
  for (const [i, logits] of theirs.entries()) {
    for (const [id, value] of logits) {
      difference += (value - own[i * width + id]) ** 2;
      size += own[i * width + id] ** 2;
    }
  }
  return Math.sqrt(difference / size);
}
