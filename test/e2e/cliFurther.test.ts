import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { encodeF32 } from '../../src/formats/float16.js';
import { readAdapter } from '../../src/formats/peft.js';
import { rankOf, scalingOf } from '../../src/formats/peftConfig.js';
import { splitAdapterKey } from '../../src/formats/peftNames.js';
import { type TensorEntry, writeSafetensors } from '../../src/formats/safetensors.js';
import { jsonLines, makeWorkspace, readJsonFile, run, training } from './cliSupport.js';

// train --adapter goes on from an adapter, whatever it is stored as.

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const heldOut = ['--eval-data', 'heldout.jsonl'];
const steps = ['--max-steps', '3', '--learning-rate', '1e-2'];

async function lossOf(adapter: string): Promise<number> {
  const args = ['eval', '--model', 'model', '--adapter', adapter, '--data', 'heldout.jsonl', '--json'];
  const { stdout, stderr, code } = await run(root, args);
  expect(code, stderr).toBe(0);
  return jsonLines(stdout)[0].loss as number;
}

/** Trains further and returns the held-out loss that it began with, and what it saved. */
async function further(adapter: string, output: string, more: readonly string[] = []) {
  const args = [...training, '--adapter', adapter, '--output', output, ...heldOut, ...steps, '--json'];
  const { stdout, stderr, code } = await run(root, [...args, ...more]);
  expect(code, stderr).toBe(0);
  const events = jsonLines(stdout);
  const first = events.find(({ kind, step }) => kind === 'eval' && step === 0);
  return { loss: first!.loss as number, config: await readJsonFile(root, output, 'adapter_config.json') };
}

it.each(['lora', 'dora', 'adalora', 'vera', 'miss', 'hira', 'alora', 'pissa', 'prefix', 'pfeiffer'])(
  'goes on from an adapter of %s',
  async (method) => {
    const options: Record<string, string[]> = {
      miss: ['--r', '4'],
      // " is", which every row has.
      alora: ['--alora-invocation-tokens', '287'],
    };
    const named = ['--method', method, ...(options[method] ?? [])];
    const trained = await run(root, [...training, ...named, '--output', method, ...steps]);
    expect(trained.code, trained.stderr).toBe(0);
    const before = await lossOf(method);
    const { loss, config } = await further(method, `${method}-2`);
    expect(loss).toBeCloseTo(before, 6);
    const { peft_type, r, target_modules } = await readJsonFile(root, method, 'adapter_config.json');
    expect({ peft_type: config.peft_type, r: config.r }).toEqual({ peft_type, r });
    if (Array.isArray(target_modules)) expect(config.target_modules).toBeDefined();
    expect(await lossOf(`${method}-2`)).not.toBeCloseTo(before, 6);
  },
  300_000,
);

it('goes on from files of llama.cpp and mlx-lm, and by loraplus', async () => {
  const trained = await run(root, [
    ...training,
    '--output',
    'one',
    '--target-modules',
    'all-linear',
    ...steps,
  ]);
  expect(trained.code, trained.stderr).toBe(0);
  const before = await lossOf('one');
  const converted = await run(root, [
    'convert',
    'one',
    '--base',
    'model',
    '--to',
    'gguf',
    '--output',
    'one.gguf',
  ]);
  expect(converted.code, converted.stderr).toBe(0);
  await writeMlx(join(root, 'one'), join(root, 'mlx'));
  for (const path of ['one.gguf', 'mlx']) {
    expect((await further(path, `${path}-2`)).loss).toBeCloseTo(before, 5);
  }
  const more = [
    '--method',
    'loraplus',
    '--lora-dropout',
    '0.1',
    '--target-modules',
    'all-linear',
    '--r',
    '8',
  ];
  const { loss, config } = await further('one', 'plus', more);
  expect(loss).toBeCloseTo(before, 6);
  expect(config).toMatchObject({ lora_dropout: 0.1, r: 8 });
  const record = await readJsonFile(root, 'plus', 'run.json');
  expect(record.options).toMatchObject({ adapter: 'one', method: 'loraplus', r: 8 });
}, 300_000);

it.each([
  [['--r', '4'], 'r 4 contradicts one, which has 8: leave --r out'],
  [['--r', 'auto'], 'r "auto" is for a new adapter'],
  [['--lora-alpha', '3'], 'lora_alpha 3 contradicts one'],
  [['--init-lora-weights', 'eva'], 'contradicts one, which has true'],
  [['--target-modules', 'q_proj'], 'the targets given are not those of one'],
  [['--method', 'dora'], 'one is an adapter of method lora, which dora does not train'],
  [['--vera-dropout', '0.1'], '--vera-dropout is not for method lora, by which one is trained'],
  [['--rank-budget', '100'], '--rank-budget is for a new adapter'],
])('refuses %j beside an adapter that has it otherwise', async (more, message) => {
  const args = [...training, '--adapter', 'one', '--output', 'no', ...steps, ...more];
  const { code, stderr } = await run(root, args);
  expect(stderr).toContain(message);
  expect(code).not.toBe(0);
});

it('does not write over the adapter that it goes on from', async () => {
  const args = [...training, '--adapter', 'one', '--output', 'one', '--overwrite', ...steps];
  expect((await run(root, args)).stderr).toContain(
    'one holds one, which the job reads, and is not overwritten',
  );
});

/** The adapter as mlx_lm.lora would have saved it. */
async function writeMlx(from: string, to: string): Promise<void> {
  const { config, tensors } = await readAdapter(from);
  const entries = [...tensors].map(([key, { shape, data }]): TensorEntry => {
    const { site, part } = splitAdapterKey(key)!;
    const [rows, columns] = shape;
    const turned = Float32Array.from(data, (_, at) => data[(at % rows) * columns + Math.floor(at / rows)]);
    const name = `${site}.${part === 'lora_A' ? 'lora_a' : 'lora_b'}`;
    return { name, dtype: 'F32', shape: [columns, rows], data: () => encodeF32(turned, 'float32') };
  });
  const rank = rankOf(config, '');
  await mkdir(to);
  await writeSafetensors(join(to, 'adapters.safetensors'), entries, {});
  const lora_parameters = { rank, scale: scalingOf(config, ''), dropout: 0 };
  await writeFile(
    join(to, 'adapter_config.json'),
    JSON.stringify({ fine_tune_type: 'lora', lora_parameters }),
  );
}
