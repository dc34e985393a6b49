import { createHash } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, overriding, readJsonFile, run, start } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
  const chat = (i: number) => [
    { role: 'user', content: `${i}?` },
    { role: 'assistant', content: i % 2 ? 'odd' : 'even' },
  ];
  const chats = Array.from({ length: 32 }, (_, i) => JSON.stringify({ messages: chat(i) }));
  await writeFile(join(root, 'chats.jsonl'), chats.join('\n'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const read = (...path: string[]) => readFile(join(root, ...path), 'utf8');
const training = ['train', '--model', 'model', '--data', 'train.jsonl', '--threads', '1'];

describe('generations on the way', () => {
  it('are told, and kept across a resume', async () => {
    const sampling = [
      '--sample-steps',
      '2',
      '--sample-prompt',
      '7 is',
      '--sample-prompt',
      '8, it is',
      '--sample-max-tokens',
      '4',
    ];
    const args = [...training, '--output', 'samples', '--max-steps', '30', '--save-steps', '1', ...sampling];
    const first = start(root, args);
    await first.sees(/^step 4 {2}7 is$/m);
    first.kill('SIGINT');
    expect((await first.outcome).code).toBe(130);
    const second = await run(root, ['train', '--output', 'samples', '--resume']);
    expect(second.code).toBe(0);
    expect(second.stdout).toMatch(/^step 30 {2}8, it is$/m);
    const samples = jsonLines(await read('samples', 'samples.jsonl'));
    const steps = samples.filter((s) => s.prompt === '8, it is').map((s) => s.step as number);
    expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b));
    expect(steps[0]).toBe(0);
    expect(steps.at(-1)).toBe(30);
    // The curve shows the steps before the resume too: its first loss is that of step 1.
    const [one] = jsonLines(await read('samples', 'metrics.jsonl')).filter((m) => m.kind === 'step');
    expect(second.stdout).toContain(`loss      ${(one.loss as number).toFixed(3)} `);
    const { command } = JSON.parse(await read('samples', 'run.json')) as { command: string };
    expect(command).toContain("--sample-prompt '7 is' --sample-prompt '8, it is'");
  });
});

describe('reading a large file', () => {
  it('stops at Ctrl-C with one sentence, and leaves nothing', async () => {
    const row = (i: number) => JSON.stringify({ text: `${i} and ${'so on '.repeat(100)}` });
    await writeFile(join(root, 'large.jsonl'), Array.from({ length: 100_000 }, (_, i) => row(i)).join('\n'));
    const reading = start(root, ['train', '--model', 'model', '--data', 'large.jsonl', '--output', 'never']);
    await reading.sees(/^trains /m);
    reading.kill('SIGINT');
    const { code, stdout, stderr } = await reading.outcome;
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
    expect(stdout.trim().split('\n').at(-1)).toBe(
      'stopping before the first step; Ctrl-C again stops at once',
    );
    expect(stdout).not.toContain('data ');
    expect(await readdir(root)).not.toContain('never');
    await rm(join(root, 'large.jsonl'));
  });
});

describe('several files of rows', () => {
  it('are read in their order, counted, and those that a run goes on with', async () => {
    await writeFile(join(root, 'more.csv'), 'prompt,completion\n100 is, even\n101 is, odd\n');
    const args = [
      'train',
      '--model',
      'model',
      '--data',
      'train.jsonl',
      '--data',
      'more.csv',
      '--threads',
      '1',
    ];
    const heldOut = ['--eval-data', 'heldout.jsonl', '--eval-data', 'more.csv'];
    const first = start(root, [...args, ...heldOut, '--output', 'both', '--max-steps', '60']);
    await first.sees(/^step +6\/60/m);
    first.kill('SIGINT');
    const { stdout } = await first.outcome;
    expect(stdout).toMatch(/^data {6}66 rows, /m);
    expect(stdout).toMatch(/^held out {2}18 rows, /m);
    const record = JSON.parse(await read('both', 'run.json'));
    expect(record).toMatchObject({
      options: { data: ['train.jsonl', 'more.csv'], evalData: ['heldout.jsonl', 'more.csv'] },
      data: {
        train: { files: [{ file: 'train.jsonl' }, { file: 'more.csv' }], counts: { rows: 66 } },
        eval: { files: [{ file: 'heldout.jsonl' }, { file: 'more.csv' }], counts: { rows: 18 } },
      },
    });
    expect(record.command).toContain(' --data train.jsonl --data more.csv ');
    expect(record.command).toContain(' --eval-data heldout.jsonl --eval-data more.csv ');

    const resume = ['train', '--output', 'both', '--resume'];
    const other = await run(root, [...resume, '--data', 'train.jsonl']);
    expect(other.code).toBe(1);
    expect((await run(root, resume)).code).toBe(0);

    const config = 'model: model\ndata: [train.jsonl, more.csv]\noutput: listed\nmax_steps: 1\n';
    await writeFile(join(root, 'both.yaml'), config);
    const listed = await run(root, ['train', '--config', 'both.yaml']);
    expect(listed.stdout).toMatch(/^data {6}66 rows, /m);
    const evaluated = await run(root, ['eval', '--model', 'model', ...args.slice(3, 7), '--json']);
    expect(jsonLines(evaluated.stdout)).toMatchObject([{ data: ['train.jsonl', 'more.csv'], rows: 66 }]);
  });
});

describe('run.json', () => {
  it('tells what a run was made of, and of each process; other rows do not go on', async () => {
    await writeFile(join(root, 'rows.jsonl'), await read('train.jsonl'));
    const args = ['train', '--model', 'model', '--data', 'rows.jsonl', '--threads', '1'];
    const first = start(root, [...args, '--output', 'made', '--max-steps', '400', '--eval-split', '4']);
    await first.sees(/^step +40\/400/m);
    first.kill('SIGINT');
    expect((await first.outcome).code).toBe(130);

    const rows = await read('rows.jsonl');
    await writeFile(join(root, 'rows.jsonl'), rows.replace('even', 'evil'));
    const resume = ['train', '--output', 'made', '--resume'];
    expect(await run(root, resume)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('rows.jsonl has changed since the run began'),
    });
    await writeFile(join(root, 'rows.jsonl'), rows);
    const second = start(root, resume);
    await second.sees(/^step +80\/400/m);
    second.kill('SIGINT');
    await second.outcome;

    const record = JSON.parse(await read('made', 'run.json'));
    const sha256 = createHash('sha256').update(rows).digest('hex');
    expect(record).toMatchObject({
      command:
        'lowrank train --model model --data rows.jsonl --output made --threads 1 --max-steps 400 --eval-split 4',
      data: {
        train: { files: [{ file: 'rows.jsonl', bytes: rows.length, sha256 }], counts: { rows: 60 } },
        eval: { files: [{ sha256 }], counts: { rows: 4 } },
      },
      model: { type: 'llama', files: [{ file: 'config.json' }, {}, { file: 'tokenizer.json' }] },
    });
    const [one, two] = record.sessions;
    expect(one).toMatchObject({ step: 0, environment: { node: process.versions.node } });
    expect(two.step).toBeGreaterThanOrEqual(40);
    expect(record.sessions).toHaveLength(2);
  });
});

describe('the chat template', () => {
  it('of a run that goes on has to be the one that it began with, where that was recorded', async () => {
    const chats = ['--data', 'chats.jsonl', '--output', 'chats', '--max-steps', '200'];
    const first = start(root, overriding(training, chats));
    await first.sees(/^step +20\/200/m);
    first.kill('SIGINT');
    expect((await first.outcome).code).toBe(130);

    const { chat_template: template } = await readJsonFile(root, 'model', 'tokenizer_config.json');
    const file = join(root, 'model', 'chat_template.jinja');
    await writeFile(file, (template as string).replace("'<|im_end|>' + '\\n'", "'<|im_end|>' + ' '"));
    const resume = ['train', '--output', 'chats', '--resume'];
    expect(await run(root, resume)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /started with other options, data or model \(--chat-template was "\w+", is "\w+"\)/,
      ),
    });

    // Older versions recorded no template.
    const [name] = (await readdir(join(root, 'chats', 'checkpoints'))).sort().reverse();
    const checkpoint = join(root, 'chats', 'checkpoints', name);
    const state = await readJsonFile(checkpoint, 'state.json');
    const { chatTemplate, ...recorded } = JSON.parse(state.fingerprint as string);
    expect(chatTemplate).toMatch(/^\w+$/);
    const older = JSON.stringify({ ...state, fingerprint: JSON.stringify(recorded) });
    const sums = await readFile(join(checkpoint, 'state.sha256'), 'utf8');
    await writeFile(join(checkpoint, 'state.json'), older);
    const sha256 = createHash('sha256').update(older).digest('hex');
    await writeFile(join(checkpoint, 'state.sha256'), sums.replace(/^\w+/, sha256));
    const resumed = await run(root, [...resume, '--json']);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(jsonLines(resumed.stdout).find((e) => e.kind === 'start')).toMatchObject({ resumed: true });
    await rm(file);
  });
});

describe('train', () => {
  it('names what the chat template does not read', async () => {
    const messages = [
      { role: 'user', content: '1?' },
      { role: 'assistant', content: 'odd', reasoning: '2 does not divide it' },
    ];
    await writeFile(join(root, 'unread.jsonl'), JSON.stringify({ messages }));
    const rows = ['--data', 'unread.jsonl', '--output', 'unread', '--max-steps', '1'];
    const { code, stdout } = await run(root, overriding(training, rows));
    expect(code).toBe(0);
    expect(stdout).toContain(
      'warning   the chat template does not read "reasoning": nothing is learned of it\n',
    );
  });
});

describe('--chat-template', () => {
  it('writes the rows, and goes with the adapter', async () => {
    const { chat_template: template } = await readJsonFile(root, 'model', 'tokenizer_config.json');
    await writeFile(join(root, 'given.jinja'), `A chat. ${template}`);
    const given = ['--chat-template', 'given.jinja'];
    const rows = ['--data', 'chats.jsonl', '--output', 'given', '--max-steps', '1'];
    expect((await run(root, overriding(training, [...rows, ...given]))).code).toBe(0);
    expect(await read('given', 'chat_template.jinja')).toBe(await read('given.jinja'));
    const evaluate = ['eval', '--model', 'model', '--adapter', 'given', '--data', 'chats.jsonl', '--json'];
    const used = await run(root, evaluate);
    expect(used.stderr).toContain("given: its own chat template is used, not the model's\n");
    const same = await run(root, [...evaluate, ...given]);
    expect(same.stderr).not.toContain('template');
    expect(jsonLines(same.stdout)[0].loss).toBe(jsonLines(used.stdout)[0].loss);
    await writeFile(join(root, 'other.jinja'), template as string);
    const chat = [
      'generate',
      '--model',
      'model',
      '--adapter',
      'given',
      '--chat',
      '3?',
      '--max-new-tokens',
      '2',
    ];
    const other = await run(root, [...chat, '--chat-template', 'other.jinja']);
    expect(other.stderr).toContain('given: its chat template is not used, other.jinja is\n');
  });
});

describe('train --find-lr', () => {
  it('suggests a learning rate, trains nothing, and leaves its figures where the run will be', async () => {
    const args = [...training, '--output', 'lr', '--learning-rate', '1', '--r', '4'];
    const find = [...args, '--find-lr', '--lr-steps', '40', '--min-lr', '1e-4'];
    const found = await run(root, find);
    expect(found).toMatchObject({ code: 0, stderr: '' });
    expect((await readdir(join(root, 'lr'))).sort()).toEqual(['lr.json', 'lr.svg']);
    const { steepest, points } = JSON.parse(await read('lr', 'lr.json')) as {
      steepest: number;
      points: { learningRate: number }[];
    };
    expect(points[0].learningRate).toBeCloseTo(1e-4, 10);
    const rate = Number(steepest.toPrecision(2));
    expect(found.stdout).toContain(`learning rate ${rate}: there the loss falls fastest`);
    expect(found.stdout).toContain(
      `to train with it: lowrank train --model model --data train.jsonl --output lr --threads 1 --r 4 --learning-rate ${rate}`,
    );
    expect(await run(root, find)).toMatchObject({
      code: 1,
      stderr: `lowrank: ${join('lr', 'lr.json')} exists already; --overwrite it\n`,
    });
    expect((await run(root, [...args, '--max-steps', '2'])).code).toBe(0);
    expect(await readdir(join(root, 'lr'))).toContain('lr.json');
  });

  it.each([
    [['--find-lr', '--min-lr', '1', '--max-lr', '1e-3'], '--min-lr 1 is not below --max-lr 0.001', 1],
    [['--min-lr', '1'], '--min-lr is for --find-lr', 2],
  ])('%j is refused', async (args, message, code) => {
    const refused = await run(root, [...training, '--output', 'refused', ...args]);
    expect(refused.code).toBe(code);
    expect(refused.stderr).toContain(message);
  });
});
