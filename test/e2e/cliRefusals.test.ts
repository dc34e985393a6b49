import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runProgram } from '../../src/cli/command.js';
import { commands } from '../../src/cli/commands.js';
import { makeWorkspace, run } from './cliSupport.js';

// What the command line refuses, in this process: none of it reaches the engine.

const root = await makeWorkspace();
const at = (name: string) => join(root, name);
beforeAll(async () => {
  await writeFile(at('bad.yaml'), 'r: 8\nlerning_rate: 1\n');
  await writeFile(at('bad.json'), '{\n  "batchSize": "many"\n}\n');
  await writeFile(at('broken.jsonl'), '{"text": "a"}\n{"txt": "b"}\n');
  await mkdir(at('notes'));
  await writeFile(at('notes/note.txt'), 'mine');
  await mkdir(at('other'));
  await writeFile(at('other/config.json'), '{}');
  await mkdir(at('trained'));
  await writeFile(at('trained/adapter_config.json'), '{}');
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Runs `lowrank ...args`; returns its exit code and what it said on stderr. */
async function refusal(args: readonly string[]): Promise<{ code: number; said: string }> {
  let said = '';
  const spies = [
    vi.spyOn(process.stdout, 'write').mockReturnValue(true),
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      said += text;
      return true;
    }),
  ];
  try {
    return { code: await runProgram(commands, '0.0.0', args), said };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const [model, data, output] = [
  ['--model', at('model')],
  ['--data', at('train.jsonl')],
  ['--output', at('refused')],
];
const training = ['train', ...model, ...data];
const train = [...training, ...output];
const table: [string[], number, RegExp][] = [
  // Wrong usage.
  [['trian'], 2, /unknown command 'trian' \(Did you mean train\?\)/],
  [
    [...train, '--lerning-rate', '1'],
    2,
    /unknown option '--lerning-rate' \(Did you mean --learning-rate\?\)/,
  ],
  [[...train, '--lora_alpha', '1'], 2, /unknown option '--lora_alpha' \(Did you mean --lora-alpha\?\)/],
  [[...train, '--r', 'abc'], 2, /--r <n\|auto>.*'abc' is invalid.*expected a whole number above 0, or auto/],
  [[...train, '--r', '0'], 2, /--r <n\|auto>.*'0' is invalid.*expected a whole number above 0, or auto/],
  [[...train, '--r', '2.5'], 2, /--r <n\|auto>.*'2.5' is invalid.*expected a whole number above 0, or auto/],
  [[...train, '--learning-rate', '0x10'], 2, /--learning-rate <x>.*'0x10' is invalid/],
  [[...train, '--rank-pattern', 'q_proj=4'], 2, /--rank-pattern <json>.*expected a JSON object/],
  [[...train, '--schedule', 'cosin'], 2, /--schedule .*one of linear, cosine, constant/],
  [[...train, 'stray'], 2, /too many arguments/],
  [['train', ...output, ...data], 2, /--model is missing/],
  [['train', ...output, ...model], 2, /--data is missing/],
  [['train', ...data, ...model], 2, /--output is missing/],
  [['generate'], 2, /--model is missing/],
  [['generate', ...model, '--prompt', 'a', '--chat', 'b'], 2, /either --prompt or --chat/],
  [['generate', ...model, '--prompt', 'a', '--merged'], 2, /--merged needs an --adapter/],
  [['merge', '--output', 'x'], 2, /--adapter is missing/],
  [['export', '--output', 'x'], 2, /<model> is missing/],
  [['export', 'demo', '--output', 'x', '--dtype', 'q4'], 2, /--dtype .*'q4' is invalid.*fp32, fp16, q8/],
  [['export', 'demo', '--output', 'x', '--max-shard-size', 'big'], 2, /--max-shard-size: expected a size/],
  [
    ['generate', '--model', ''],
    2,
    /'--model <model>' argument '' is invalid\. expected a text that is not empty$/m,
  ],
  [['train', '--max-steps', '1.5'], 2, /argument '1\.5' is invalid\. expected a whole number$/m],
  [['train', '--epochs', '-1'], 2, /argument '-1' is invalid\. expected a number above 0$/m],
  [['train', '--max-length', '0'], 2, /argument '0' is invalid\. expected a number of at least 2$/m],
  [
    ['train', '--seed', '1e20'],
    2,
    /argument '1e20' is invalid\. expected a number of at most 9007199254740991$/m,
  ],
  [['train', '--quantize', 'nf5'], 2, /argument 'nf5' is invalid\. expected one of nf4, int8, int4$/m],
  [['inspect'], 2, /missing required argument 'path'/],
  // Something is wrong with a file or an option's value.
  [
    [...train, '--config', at('bad.yaml')],
    1,
    /bad\.yaml line 2: unknown key "lerning_rate", did you mean "learning_rate"\?/,
  ],
  [
    [...train, '--config', at('bad.json')],
    1,
    /bad\.json line 2: key "batchSize": expected number, received string/,
  ],
  [[...train, '--config', at('none.yaml')], 1, /none\.yaml: there is no such file/],
  [[...train, '--method', 'full', '--r', '4'], 1, /--r is not for method full/],
  [[...train, '--target-modules', 'q_porj'], 1, /"q_porj" matches no layer; did you mean "q_proj"\?/],
  [
    [...train, '--epochs', '1e300'],
    1,
    /1e\+300 epochs of 64 examples are 8e\+300 steps; a run has at most 99999999/,
  ],
  [[...train, '--max-steps', '1e15'], 2, /--max-steps <n>.*expected a number of at most 99999999/],
  [[...train, '--find-lr', '--lr-steps', '1e15'], 2, /--lr-steps <n>.*expected a number of at most 99999999/],
  [[...train, '--method', 'pissa', '--r', '1000'], 1, /r 1000 is larger than .* allows/],
  [[...train, '--max-length', '1000'], 1, /1000 is more than the model's 128 positions/],
  [['train', '--model', at('nowhere'), ...data, ...output], 1, /there is no model at .*nowhere/],
  [['train', ...model, '--data', at('broken.jsonl'), ...output], 1, /broken\.jsonl line 2: .*"txt"/],
  [[...training, '--output', at('notes')], 1, /notes holds other files already; choose another output$/m],
  [[...training, '--output', at('notes'), '--overwrite'], 1, /notes is neither a run nor an adapter/],
  [[...training, '--output', at('train.jsonl')], 1, /train\.jsonl is a file, not a folder/],
  [['train', '--resume', ...output], 1, /there is no run to resume in .*refused/],
  [['eval', ...model, '--adapter', at('notes'), ...data], 1, /notes is not an adapter folder/],
  [['eval', ...model, ...data, '--limit', '5'], 2, /--limit is for --generate/],
  [['eval', ...model, ...data, '--predictions', at('p.jsonl')], 2, /--predictions is for --generate/],
  [['eval', ...model, ...data, '--generate', '--limit', '0'], 2, /--limit <n>.*'0' is invalid/],
  [
    ['eval', ...model, ...data, '--generate', '--predictions', at('train.jsonl'), '--overwrite'],
    1,
    /train\.jsonl is read from and is not overwritten/,
  ],
  [
    ['eval', ...model, ...data, '--generate', '--predictions', at('broken.jsonl')],
    1,
    /broken\.jsonl exists already; choose another file, or replace it by --overwrite/,
  ],
  [['generate', '--adapter', at('notes'), '--prompt', 'a'], 1, /notes is not an adapter folder/],
  // What would be refused then is not advised.
  [
    ['merge', ...model, '--adapter', at('notes'), '--output', at('notes')],
    1,
    /notes exists already; choose another output$/m,
  ],
  [
    ['merge', ...model, '--adapter', at('notes'), '--output', at('model')],
    1,
    /model exists already; choose another output$/m,
  ],
  [
    ['merge', ...model, '--adapter', at('notes'), '--output', '.'],
    1,
    /\. exists already; choose another output$/m,
  ],
  [
    ['merge', ...model, '--adapter', at('notes'), '--output', at('other')],
    1,
    /other exists already; choose another output, or replace it by --overwrite$/m,
  ],
  [
    ['merge', ...model, '--adapter', at('notes'), '--output', at('notes'), '--overwrite'],
    1,
    /notes is no model folder/,
  ],
  [
    ['merge', ...model, '--adapter', at('notes'), '--output', at('model'), '--overwrite'],
    1,
    /model is read from and is not overwritten/,
  ],
  [['inspect', at('notes')], 1, /notes is neither a model .* nor an adapter/],
  [['inspect', at('train.jsonl')], 1, /train\.jsonl/],
  [['convert', at('train.jsonl'), ...output], 1, /train\.jsonl/],
];

it.each(table)('%j', async (args, code, message) => {
  const outcome = await refusal(args);
  expect(outcome.said).toMatch(message);
  expect(outcome.said).toMatch(/^lowrank: [^\n]+\n$/);
  expect(outcome.code).toBe(code);
  expect(await readdir(root)).not.toContain('refused');
  expect(await readFile(at('notes/note.txt'), 'utf8')).toBe('mine');
});

it('does not advise to overwrite the current folder', async () => {
  const job = ['train', ...model, ...data, '--output', '.'];
  const asked = await run(at('trained'), job);
  expect(asked).toMatchObject({
    code: 1,
    stderr: 'lowrank: . exists already; choose another output\n',
  });
  const { code, stdout, stderr } = await run(at('trained'), [...job, '--overwrite']);
  expect(stderr).toMatch(
    /^lowrank: \. holds .*trained and is not overwritten; choose another output folder\n$/,
  );
  // Before anything is loaded.
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
});
