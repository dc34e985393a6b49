import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, run } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const engine = ['--threads', '1'];
const write = (name: string, rows: readonly object[]) =>
  writeFile(join(root, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
const train = (data: string, output: string, ...more: string[]) =>
  run(root, ['train', '--model', 'model', '--data', data, '--output', output, ...engine, ...more]);

/** Texts whose first word tells their class. */
const classes = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => {
    const warm = (i + from) % 2 === 0;
    return { text: `${warm ? 'sunny' : 'rain'} in town number ${i + from}`, label: warm ? 'warm' : 'cold' };
  });

describe('a classifier', () => {
  beforeAll(async () => {
    await write('classes.jsonl', classes(48));
    await write('held-out.jsonl', classes(8, 48));
    const csv = classes(8, 48).map(({ text, label }) => `${text},${label}`);
    await writeFile(join(root, 'held-out.csv'), ['text,label', ...csv].join('\n'));
    const trained = await train(
      'classes.jsonl',
      'classifier',
      ...['--task', 'sequence-classification', '--eval-data', 'held-out.jsonl'],
      ...['--epochs', '6', '--batch-size', '8', '--learning-rate', '1e-2'],
    );
    expect(trained).toMatchObject({ code: 0, stderr: '' });
    expect(trained.stdout).toMatch(/^held-out loss .* \(accuracy 0\.\d+ -> 1\.0000, F1 .*\), of step/m);
    expect(trained.stdout).toContain('lowrank predict --model model --adapter classifier --text ...');
  });

  it('leaves an adapter with its head, its task and its labels', async () => {
    const json = async (name: string) => JSON.parse(await readFile(join(root, 'classifier', name), 'utf8'));
    expect(await json('adapter_config.json')).toMatchObject({
      task_type: 'SEQ_CLS',
      modules_to_save: ['score'],
    });
    expect(await json('lowrank_task.json')).toEqual({
      kind: 'sequence-classification',
      labels: ['cold', 'warm'],
    });
  });

  it.each(['held-out.jsonl', 'held-out.csv'])('evaluates %s', async (data) => {
    const found = await run(root, ['eval', '--adapter', 'classifier', '--data', data, ...engine, '--json']);
    expect(found.code).toBe(0);
    const [result] = jsonLines(found.stdout);
    expect(result).toMatchObject({ accuracy: 1, f1: 1, matthews: 1, tokens: 8, units: { target: 'row' } });
  });

  it('predicts texts, a file and stdin, merged or not, in their order', async () => {
    const predict = ['predict', '--adapter', 'classifier', ...engine];
    const texts = ['--text', 'rain in town number 3', '--text', 'sunny in town number 2'];
    const told = await run(root, [...predict, ...texts]);
    expect(told.stdout).toMatch(
      /^cold {2}[01]\.\d{4} {2}rain in town number 3\nwarm {2}[01]\.\d{4} {2}sunny in/,
    );
    const fromFile = await run(root, [
      ...predict,
      '--data',
      'held-out.csv',
      '--output',
      'answers.jsonl',
      '--merged',
    ]);
    expect(fromFile).toMatchObject({ code: 0 });
    const answers = jsonLines(await readFile(join(root, 'answers.jsonl'), 'utf8'));
    expect(answers.map(({ label }) => label)).toEqual(classes(8, 48).map(({ label }) => label));
    expect(answers[0]).toMatchObject({ line: 2, row: { text: 'sunny in town number 48' } });
    const again = await run(root, [...predict, '--data', 'held-out.csv', '--output', 'answers.jsonl']);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('answers.jsonl exists already') });
    const piped = await run(root, [...predict, '--json'], 'rain here\n{"text": "sunny there"}\n');
    expect(jsonLines(piped.stdout)).toMatchObject([
      { label: 'cold', row: { text: 'rain here' }, probabilities: { cold: expect.any(Number) } },
      { label: 'warm', row: { text: 'sunny there' } },
    ]);
  });

  it('merges into a model that has the head and the labels', async () => {
    await run(root, ['merge', '--model', 'model', '--adapter', 'classifier', '--output', 'whole']);
    const config = JSON.parse(await readFile(join(root, 'whole', 'config.json'), 'utf8'));
    expect(config).toMatchObject({
      architectures: ['LlamaForSequenceClassification'],
      id2label: { 0: 'cold', 1: 'warm' },
    });
    const found = await run(root, [
      'eval',
      '--model',
      'whole',
      '--data',
      'held-out.jsonl',
      ...engine,
      '--json',
    ]);
    expect(jsonLines(found.stdout)).toMatchObject([{ accuracy: 1 }]);
  });

  it('keeps its task at lower ranks, and is no GGUF model', async () => {
    const resized = await run(root, ['resize', 'classifier', '--r', '2', '--output', 'smaller']);
    expect(resized.code).toBe(0);
    const task = JSON.parse(await readFile(join(root, 'smaller', 'lowrank_task.json'), 'utf8'));
    expect(task).toMatchObject({ labels: ['cold', 'warm'] });
    const merged = await run(root, [
      'merge',
      '--model',
      'model',
      '--adapter',
      'classifier',
      '--output',
      'whole.gguf',
    ]);
    expect(merged).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('models of type llama for sequence-classification are not converted'),
    });
  });

  it('does not generate', async () => {
    const found = await run(root, ['generate', '--adapter', 'classifier', '--prompt', 'rain', ...engine]);
    expect(found).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('the model is one for sequence-classification: it does not generate'),
    });
  });
});

it('a number of each row is told by regression', async () => {
  const rows = Array.from({ length: 32 }, (_, i) => ({
    sentence1: 'sunny',
    sentence2: 'rain',
    label: i % 2,
  }));
  await write(
    'numbers.jsonl',
    rows.map((row) => (row.label ? row : { ...row, sentence1: 'rain in the hills' })),
  );
  const trained = await train(
    'numbers.jsonl',
    'numbers',
    ...['--task', 'regression', '--eval-split', '8', '--epochs', '6', '--batch-size', '8'],
    ...['--learning-rate', '1e-2'],
  );
  expect(trained).toMatchObject({ code: 0, stderr: '' });
  expect(trained.stdout).toMatch(/Pearson (.* -> )?(0\.9\d+|1\.0000), Spearman/);
  const found = await run(root, [
    'predict',
    '--adapter',
    'numbers',
    '--data',
    'numbers.jsonl',
    ...engine,
    '--json',
  ]);
  const values = jsonLines(found.stdout).map(({ value }) => Number(value));
  expect(values[1]).toBeGreaterThan(values[0] + 0.5);
});

it('the labels of words are told by token classification', async () => {
  const rows = Array.from({ length: 32 }, (_, i) => ({
    tokens: ['rain', i % 2 ? 'Oslo' : 'fell', 'today'],
    ner_tags: ['O', i % 2 ? 'B-LOC' : 'O', 'O'],
  }));
  await write('words.jsonl', rows);
  const trained = await train(
    'words.jsonl',
    'words',
    ...['--task', 'token-classification', '--eval-split', '8', '--epochs', '6', '--batch-size', '8'],
    ...['--learning-rate', '1e-2'],
  );
  expect(trained).toMatchObject({ code: 0, stderr: '' });
  expect(trained.stdout).toMatch(/entity F1 0\.\d+ -> 1\.0000/);
  const told = await run(root, ['predict', '--adapter', 'words', '--data', 'words.jsonl', ...engine]);
  expect(told.stdout).toContain('rain/O Oslo/B-LOC today/O\n');
});

describe('an encoder of sentences', () => {
  const pairs = Array.from({ length: 16 }, (_, i) => ({
    anchor: `what is number ${i}`,
    positive: `it is ${'abcdefghijklmnop'[i]}`,
  }));
  beforeAll(async () => {
    await write('pairs.jsonl', pairs);
    const trained = await train(
      'pairs.jsonl',
      'sentences',
      ...['--task', 'embedding', '--eval-data', 'pairs.jsonl', '--epochs', '40', '--batch-size', '16'],
      ...['--learning-rate', '1e-2', '--target-modules', 'all-linear'],
    );
    expect(trained).toMatchObject({ code: 0, stderr: '' });
    expect(trained.stdout).toMatch(/^held-out loss .* \(accuracy 0\.\d+ -> (0\.9\d*|1\.0000), MRR /m);
    expect(trained.stdout).toContain('lowrank predict --model model --adapter sentences --text ...');
  });

  it('leaves an adapter of the model without a class, with its task', async () => {
    const json = async (name: string) => JSON.parse(await readFile(join(root, 'sentences', name), 'utf8'));
    expect(await json('adapter_config.json')).toMatchObject({ task_type: 'FEATURE_EXTRACTION' });
    expect(await json('lowrank_task.json')).toEqual({ kind: 'embedding', pooling: 'last', normalize: true });
  });

  it('embeds texts and rows, with the adapter or merged, each text near its match', async () => {
    await write(
      'texts.jsonl',
      [...pairs.map(({ anchor }) => anchor), ...pairs.map(({ positive }) => positive)].map((text) => ({
        text,
      })),
    );
    const embed = ['predict', '--data', 'texts.jsonl', ...engine, '--json'];
    const found = jsonLines((await run(root, [...embed, '--adapter', 'sentences'])).stdout);
    const vectors = found.map(({ embedding }) => embedding as number[]);
    expect(vectors.map((v) => v.length)).toEqual(vectors.map(() => 32));
    const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    for (const v of vectors) expect(dot(v, v)).toBeCloseTo(1, 5);
    const right = pairs.filter((_, i) => {
      const scores = pairs.map((_, j) => dot(vectors[i], vectors[pairs.length + j]));
      return scores[i] === Math.max(...scores);
    });
    expect(right.length).toBeGreaterThan(12);
    const whole = await run(root, ['merge', '--adapter', 'sentences', '--output', 'encoder']);
    expect(whole.stdout).toContain('to use it: lowrank predict --model encoder --text ...');
    const merged = jsonLines((await run(root, [...embed, '--model', 'encoder'])).stdout);
    for (const [i, { embedding }] of merged.entries())
      expect(dot(embedding as number[], vectors[i])).toBeCloseTo(1, 4);
    const told = await run(root, ['predict', '--adapter', 'sentences', '--text', 'a', ...engine]);
    expect(told.stdout).toMatch(/^-?\d\.\d{4} .* … \(32\) {2}a\n$/);
  });

  it('refuses what it cannot learn from, in one sentence', async () => {
    await write('scored.jsonl', [{ sentence1: 'a', sentence2: 'b', score: 0.5 }]);
    const task = ['--task', 'embedding'];
    const scored = await train('scored.jsonl', 'bad', ...task);
    expect(scored.stderr).toMatch(
      /scored\.jsonl line 1: key "score": each pair is learned as one that belongs together/,
    );
    await write('lone.jsonl', [{ anchor: 'a' }]);
    const lone = await train('lone.jsonl', 'bad', ...task);
    expect(lone.stderr).toContain('lone.jsonl line 1: key "positive": expected a text, found none');
    const single = await train('pairs.jsonl', 'bad', ...task, '--batch-size', '1');
    expect(single.stderr).toContain('an embedding learns from the other rows of its batch');
    const stray = await train('pairs.jsonl', 'bad', '--pooling', 'mean');
    expect(stray.stderr).toContain('--pooling is for embeddings: --task embedding');
    const unlike = await run(root, ['predict', '--model', 'encoder', '--data', 'pairs.jsonl', ...engine]);
    expect(unlike.stderr).toContain('expected the keys "text", or "sentence"');
  });
});

describe('bad input is refused in one sentence', () => {
  const task = ['--task', 'sequence-classification'];
  it.each([
    [
      [{ text: 'a', label: 'x' }],
      'classes needs two',
      'all rows have the label "x", and a classifier needs two',
    ],
    [
      [{ text: 'a', label: 'x' }, { text: 'b' }],
      'a missing label',
      'line 2: key "label": expected the name or the number of a label, found none',
    ],
    [
      [{ text: ['a', 'b'], label: 'x' }],
      'a pair in one key',
      'a pair of texts is two keys, as text and text_pair',
    ],
    [
      [
        { text: 'a', label: 0.5 },
        { text: 'b', label: 1 },
      ],
      'numbers',
      'the label 0.5 is no class; train for regression',
    ],
    [
      [
        { text: 'a', label: -1 },
        { text: 'b', label: 1 },
      ],
      'no labels',
      'the label -1 is no class',
    ],
    [
      [
        { text: 'a', label: 'x' },
        { premise: 'a', hypothesis: 'b', label: 'y' },
      ],
      'two kinds of rows',
      'line 2 is a row of pairs of texts, line 1 one of single texts',
    ],
  ])('%j: %s', async (rows, _, message) => {
    await write('bad.jsonl', rows);
    const found = await train('bad.jsonl', 'bad', ...task);
    expect(found.code).toBe(1);
    expect(found.stderr).toContain(message);
    expect(found.stderr.trim().split('\n')).toHaveLength(1);
  });

  it('a label that the model has not, and labels without a task', async () => {
    await write('bad.jsonl', [{ text: 'a', label: 'z' }]);
    const found = await train('bad.jsonl', 'bad', ...task, '--labels', 'x,y');
    expect(found.stderr).toContain(
      'bad.jsonl line 1: key "label": "z" is no label of the model, expected one of x, y',
    );
    const stray = await train('bad.jsonl', 'bad', '--labels', 'x,y');
    expect(stray.stderr).toContain('--labels is for a classifier');
    await write('classes.jsonl', classes(4));
    const planned = await train('classes.jsonl', 'bad', ...task, '--r', 'auto');
    expect(planned.stderr).toContain(
      'ranks and starts are planned for next tokens, not for sequence-classification',
    );
    const plain = await run(root, ['predict', '--model', 'model', '--text', 'a', ...engine]);
    expect(plain.stderr).toContain(
      'the model predicts the next token: generate with it, or open it for a task',
    );
    const untrained = await run(root, [
      'predict',
      '--model',
      'model',
      ...task,
      '--labels',
      'x,y',
      '--text',
      'a',
      ...engine,
    ]);
    expect(untrained.stderr).toContain('the head is new (score.weight is in no file');
  });
});
