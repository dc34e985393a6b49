import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, overriding, run, start } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const read = (...path: string[]) => readFile(join(root, ...path), 'utf8');
const engine = ['--threads', '1'];
const training = ['train', '--model', 'model', '--data', 'train.jsonl', ...engine];

describe('the whole way', () => {
  beforeAll(async () => {
    await writeFile(
      join(root, 'run.yaml'),
      'eval_data: heldout.jsonl\ntarget_modules: [q_proj, v_proj]\nr: 2\nlora_alpha: 8\nlearningRate: 1e-2\nbatch-size: 8\nepochs: 1\n',
    );
    const trained = await run(root, [...training, '--config', 'run.yaml', '--output', 'adapter', '--r', '4']);
    expect(trained).toMatchObject({ code: 0, stderr: '' });
    expect(trained.stdout).toMatch(/^model +model \(llama, 2 layers, /m);
    expect(trained.stdout).toMatch(/^data +64 rows, /m);
    expect(trained.stdout).toMatch(/^step 8\/8 /m);
    expect(trained.stdout).toContain('lowrank generate --model model --adapter adapter');
  });

  it('leaves a PEFT adapter, its metrics and how it was made, and no checkpoints', async () => {
    expect((await readdir(join(root, 'adapter'))).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'loss.svg',
      'metrics.jsonl',
      'run.json',
    ]);
    expect(JSON.parse(await read('adapter', 'adapter_config.json'))).toMatchObject({
      peft_type: 'LORA',
      r: 4, // the flag wins over the file
      lora_alpha: 8,
      target_modules: ['q_proj', 'v_proj'],
      base_model_name_or_path: 'model',
    });
    const metrics = jsonLines(await read('adapter', 'metrics.jsonl'));
    expect(metrics.filter((m) => m.kind === 'step').map((m) => m.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const [before, after] = metrics.filter((m) => m.kind === 'eval').map((m) => m.loss as number);
    expect(after).toBeLessThan(before);
    expect(JSON.parse(await read('adapter', 'run.json'))).toMatchObject({
      status: 'complete',
      options: { r: 4, learningRate: 0.01, batchSize: 8, seed: 0 },
      command:
        'lowrank train --model model --data train.jsonl --output adapter --eval-data heldout.jsonl ' +
        '--target-modules q_proj,v_proj --r 4 --lora-alpha 8 --learning-rate 0.01 --batch-size 8 --epochs 1 --threads 1',
      result: { heldOut: { before, after } },
    });
  });

  it('evaluates to the loss that training told', async () => {
    const metrics = jsonLines(await read('adapter', 'metrics.jsonl'));
    const [before, after] = metrics.filter((m) => m.kind === 'eval').map((m) => m.loss as number);
    const evaluate = ['eval', '--model', 'model', '--data', 'heldout.jsonl', '--json', ...engine];
    const [base] = jsonLines((await run(root, evaluate)).stdout);
    const [adapted] = jsonLines((await run(root, [...evaluate, '--adapter', 'adapter'])).stdout);
    expect(base.loss).toBeCloseTo(before, 5);
    expect(adapted.loss).toBeCloseTo(after, 5);
    expect(adapted).toMatchObject({ rows: 16, truncated: 0, dropped: 0 });
  });

  it('generates the same text with the adapter, merged in memory and merged on disk', async () => {
    const limits = ['--max-new-tokens', '12', ...engine];
    const merging = await run(root, ['merge', '--adapter', 'adapter', '--output', 'merged']);
    expect(merging).toMatchObject({ code: 0, stderr: '' });
    const prompt = ['--prompt', '71 is', ...limits];
    const [adapter, merged, folder, piped] = await Promise.all([
      run(root, ['generate', '--adapter', 'adapter', ...prompt]),
      run(root, ['generate', '--adapter', 'adapter', '--merged', ...prompt]),
      run(root, ['generate', '--model', 'merged', ...prompt]),
      run(root, ['generate', '--adapter', 'adapter', '--json', ...limits], '71 is\n'),
    ]);
    expect(adapter.code).toBe(0);
    expect(adapter.stdout.length).toBeGreaterThan(1);
    expect(adapter.stderr).toMatch(/tokens in, \d+ out \((ended by the model|cut at the limit)\)/);
    expect(merged.stdout).toBe(adapter.stdout);
    expect(folder.stdout).toBe(adapter.stdout);
    expect(`${jsonLines(piped.stdout)[0].text}\n`).toBe(adapter.stdout);
  });

  it("answers by the model's chat template", async () => {
    const chat = ['generate', '--model', 'model', '--chat', 'hello', '--system', 'be brief', '--json'];
    const outcome = await run(root, [...chat, '--max-new-tokens', '3', '--temperature', '1', ...engine]);
    expect(outcome.code).toBe(0);
    expect(jsonLines(outcome.stdout)[0]).toMatchObject({ tokens: 3, reason: 'length' });
  });

  it('inspects models and adapters', async () => {
    const [model] = jsonLines((await run(root, ['inspect', 'model', '--r', '2', '--json'])).stdout);
    expect(model).toMatchObject({
      kind: 'model',
      config: { modelType: 'llama', layers: 2 },
      trainable: { parameters: 2 * 2 * (2 * 64 + 2 * 48 + 3 * 80), sites: 14 },
    });
    expect(model.modules).toContainEqual(
      expect.objectContaining({ pattern: 'model.layers.*.self_attn.q_proj', count: 2, in: 32, out: 32 }),
    );
    const [adapter] = jsonLines((await run(root, ['inspect', 'adapter', '--json'])).stdout);
    expect(adapter).toMatchObject({ kind: 'adapter', base: 'model', parameters: 2 * (4 * 64 + 4 * 48) });
    const text = await run(root, ['inspect', 'model']);
    expect(text.stdout).toMatch(/^model\.layers\.\*\.mlp\.down_proj +x 2 +32 x 48$/m);
  });

  it('trains on a table, holds rows out of it, packs, stops early, and lists its runs', async () => {
    const rows = Array.from({ length: 60 }, (_, i) => `${i},"${i} is", ${i % 2 ? 'odd' : 'even'}`);
    await writeFile(join(root, 'train.csv'), ['id,prompt,completion', ...rows].join('\n'));
    const table = [
      'train',
      '--model',
      'model',
      '--data',
      'train.csv',
      '--eval-split',
      '0.2',
      '--eval-steps',
      '1',
      '--schedule',
      'constant',
    ];
    const early = ['--early-stopping-patience', '2', '--early-stopping-threshold', '100'];
    const output = ['--output', join('runs', 'packed'), '--tensorboard', '--packing', '--json'];
    const { code, stdout } = await run(root, [...table, ...early, ...output]);
    expect(code).toBe(0);
    const events = jsonLines(stdout);
    expect(events.find((event) => event.kind === 'data')).toMatchObject({
      train: { rows: 48 },
      eval: { rows: 12 },
    });
    expect(events.at(-1)).toMatchObject({ kind: 'saved', early: true, steps: 3 });
    const plain = ['--max-steps', '3', '--output', join('runs', 'plain')];
    expect((await run(root, [...table, ...plain])).stdout).toMatch(/^loss +\d\S+ +[▁-█]+ \d\S+$/m);
    const losses = async (name: string) =>
      jsonLines(await read('runs', name, 'metrics.jsonl')).map(({ loss }) => loss as number);
    const [packed, unpacked] = [await losses('packed'), await losses('plain')];
    expect(packed).toHaveLength(7);
    unpacked.forEach((loss, i) => expect(packed[i]).toBeCloseTo(loss, 4));
    expect(await readdir(join(root, 'runs', 'packed'))).toContain('events.out.tfevents.lowrank');
    const listed = await run(root, ['runs', 'runs']);
    expect(listed.stdout).toMatch(/^packed +complete +lora r=8 +3 /m);
    expect(listed.stdout).toMatch(/^plain +complete +lora r=8 +3 +\S+ -> \S+ +\S+ -> \S+$/m);
  });

  it('trains a whole model with --method full', async () => {
    const full = [...training, '--method', 'full', '--max-steps', '2', '--output', 'whole', '--json'];
    const { code, stdout } = await run(root, full);
    expect(code).toBe(0);
    expect(jsonLines(stdout).at(-1)).toMatchObject({ kind: 'saved', what: 'model', folder: 'whole' });
    expect(await readdir(join(root, 'whole'))).toEqual(
      expect.arrayContaining(['config.json', 'model.safetensors', 'tokenizer.json', 'run.json']),
    );
    expect((await run(root, ['eval', '--model', 'whole', '--data', 'heldout.jsonl'])).code).toBe(0);
  });
});

describe('a run that stops', () => {
  const job = [...training, '--max-steps', '60', '--save-steps', '10', '--lora-dropout', '0.1'];
  const steps = async (folder: string) =>
    jsonLines(await read(folder, 'metrics.jsonl')).map(({ step, loss, gradNorm }) => ({
      step,
      loss,
      gradNorm,
    }));
  beforeAll(async () => {
    expect((await run(root, [...job, '--output', 'straight'])).code).toBe(0);
  });

  it('goes on after SIGKILL with the losses of one that was not killed', async () => {
    const killed = start(root, [...job, '--output', 'killed', '--json']);
    await killed.sees(/"kind":"checkpoint","step":20/);
    killed.kill('SIGKILL');
    expect((await killed.outcome).signal).toBe('SIGKILL');
    expect(await readdir(join(root, 'killed'))).not.toContain('adapter_config.json');

    const again = await run(root, [...job, '--output', 'killed']);
    expect(again).toMatchObject({ code: 1, stdout: '' });
    expect(again.stderr).toMatch(/^lowrank: killed holds an unfinished run; go on with --resume, .*\n$/);

    const resumed = await run(root, ['train', '--output', 'killed', '--resume', '--json']);
    expect(resumed.code).toBe(0);
    expect(jsonLines(resumed.stdout).find((e) => e.kind === 'start')).toMatchObject({ resumed: true });
    expect(await steps('killed')).toEqual(await steps('straight'));
    expect(await readFile(join(root, 'killed', 'adapter_model.safetensors'))).toEqual(
      await readFile(join(root, 'straight', 'adapter_model.safetensors')),
    );
    expect(await readdir(join(root, 'killed'))).not.toContain('checkpoints');
  });

  it('ends with a checkpoint and how to go on at the first Ctrl-C', async () => {
    const output = 'with space';
    const stopped = start(root, overriding(job, ['--save-steps', '0', '--output', output]));
    await stopped.sees(/^step \d+\/60/m);
    stopped.kill('SIGINT');
    const { code, stdout, stderr } = await stopped.outcome;
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
    expect(stdout).toContain("to go on: lowrank train --output 'with space' --resume\n");
    expect((await run(root, ['train', '--output', output, '--resume'])).code).toBe(0);
    expect(await steps(output)).toEqual(await steps('straight'));
  });

  it('writes down what the number of rows decided', async () => {
    const record = JSON.parse(await read('straight', 'run.json')) as object;
    const options = { learningRate: 1e-3, maxSteps: 60, targetModules: 'all-linear', r: 8, loraAlpha: 16 };
    expect(record).toMatchObject({ options });
    expect(
      (await run(root, [...training, '--learning-rate', '1e39', '--output', 'overflown'])).stderr,
    ).toMatch(
      /^lowrank: training stopped at step 1: a step at learning rate 1e\+39 overflows float32; try a lower [^\n]+\n$/,
    );
    expect(await readdir(join(root, 'overflown'))).not.toContain('adapter_config.json');
  });

  it('refuses to go on with other options', async () => {
    const stopped = start(root, overriding(job, ['--save-steps', '5', '--output', 'changed', '--json']));
    await stopped.sees(/"kind":"checkpoint"/);
    stopped.kill('SIGTERM');
    expect((await stopped.outcome).code).toBe(130);
    const other = await run(root, ['train', '--output', 'changed', '--resume', '--learning-rate', '1']);
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/^lowrank: .*--learning-rate was 0.001, is 1\)\n$/);
  });
});

describe('a refusal', () => {
  it.each([
    [['train', '--model', 'model', '--output', 'x', '--r', 'abc'], 2, /'abc' is invalid/],
    [['generate', '--model', 'model'], 2, /nothing on stdin/],
    [['inspect', 'nowhere'], 1, /there is nothing at nowhere/],
  ] as [string[], number, RegExp][])('%j', async (args, code, message) => {
    const { stderr, ...outcome } = await run(root, args);
    expect(outcome).toEqual({ code, signal: null, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^lowrank: [^\n]+\n$/);
  });
});

it('has help and a version', async () => {
  expect((await run(root, ['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  const { code, stdout } = await run(root, ['train', '--help']);
  expect(code).toBe(0);
  expect(stdout).toContain('--lora-alpha <x>');
  expect(stdout).toMatch(/Examples:\n {2}lowrank train/);
});

describe('a pipe that nobody reads from any more', () => {
  it('ends a command quietly', async () => {
    for (const args of [['inspect', 'model'], ['--help']]) {
      const running = start(root, args);
      running.stopReading();
      expect(await running.outcome).toMatchObject({ code: 130, signal: null, stderr: '' });
    }
  });

  it('ends training as Ctrl-C does: with a checkpoint that the run goes on from', async () => {
    const piped = [...training, '--output', 'piped', '--max-steps', '1000'];
    const running = start(root, piped);
    await running.sees(/^step +\d+\/1000/m);
    running.stopReading();
    expect(await running.outcome).toMatchObject({ code: 130, signal: null, stderr: '' });
    const resumed = await run(root, ['train', '--output', 'piped', '--resume']);
    expect(resumed).toMatchObject({ code: 0, stdout: expect.stringMatching(/^goes on after step /m) });
  });

  it('ends work that writes with nothing left of it', async () => {
    const running = start(root, ['merge', '--model', 'model', '--adapter', 'piped', '--output', 'unread']);
    running.stopReading();
    const { code, stderr } = await running.outcome;
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
    expect((await readdir(root)).filter((name) => name.startsWith('.unread'))).toEqual([]);
  });
});
