import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, claimPredictions, savePredictions } from './generations.js';
import { loadModel } from './loadModel.js';
import type { Model } from './model.js';

const maxNewTokens = 6;
const prompts = ['Oslo, Friday:', 'A river is', 'The house'];

let model: Model;
let folder: string;
let said: string[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-generations-'));
  model = await loadModel('demo', { threads: 1 });
  said = [];
  for (const prompt of prompts) said.push(await model.generate(prompt, { maxNewTokens, doSample: false }));
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true });
});

const rows = () => prompts.map((prompt, i) => ({ prompt, completion: said[i] }));

describe('evaluate with generate', () => {
  it('compares what generate says with the answers of the rows, beside the loss', async () => {
    const plain = await model.evaluate(rows());
    expect(plain.generations).toBeUndefined();
    const seen: string[] = [];
    const { generations, ...measured } = await model.evaluate(rows(), {
      generate: { maxNewTokens },
      onProgress: ({ what, done, total }) => {
        if (what === 'answering') seen.push(`${done}/${total}`);
      },
    });
    expect(measured).toEqual(plain);
    expect(generations).toMatchObject({
      exactMatch: 1,
      rougeL: 1,
      rows: 3,
      dropped: 0,
      unanswered: 0,
      cut: 3,
    });
    expect(generations!.bleu.score).toBeCloseTo(100, 8);
    expect(generations!.answers.map(({ prediction }) => prediction)).toEqual(said.map((text) => text.trim()));
    expect(generations!.answers[1]).toMatchObject({ line: 2, prompt: prompts[1], tokens: maxNewTokens });
    expect(seen).toEqual(['0/3', '1/3', '2/3', '3/3']);
  });

  it('answers so many rows as it is asked to, out of a source that can be read but once', async () => {
    const once = (function* () {
      yield* rows();
    })();
    const { rows: read, generations } = await model.evaluate(once, { generate: { maxNewTokens, limit: 2 } });
    expect(read).toBe(3);
    expect(generations!.answers).toHaveLength(2);
  });

  it('ends at a stop text', async () => {
    const stop = [said[0].trim().slice(2, 4)];
    const { generations } = await model.evaluate(rows().slice(0, 1), { generate: { maxNewTokens, stop } });
    expect(generations!.answers[0]).toMatchObject({ reason: 'stop', exactMatch: false });
    expect(generations!.cut).toBe(0);
  });

  it('takes the likeliest token though the model itself would sample', async () => {
    const own = join(folder, 'model');
    await cp(model.base.folder, own, { recursive: true });
    await writeFile(join(own, 'generation_config.json'), '{"do_sample": true, "temperature": 5}');
    const sampling = await loadModel(own, { threads: 1 });
    const { generations } = await sampling.evaluate(rows(), { generate: { maxNewTokens } });
    expect(generations!.exactMatch).toBe(1);
    await sampling.close();
  });

  it('is the model of the call, with its adapter', async () => {
    const adapted = await loadModel('demo', { threads: 1 });
    const { values } = await adapted.addLora({ r: 2 });
    for (const tensor of values.values()) tensor.data.fill(0.3);
    const answered = adapted.evaluate(rows(), { generate: { maxNewTokens } });
    adapted.disableAdapters();
    expect((await answered).generations!.exactMatch).toBe(0);
    expect((await adapted.evaluate(rows(), { generate: { maxNewTokens } })).generations!.exactMatch).toBe(1);
    await adapted.close();
  });

  it('throws the reason of a signal', async () => {
    const stop = new AbortController();
    const onProgress = ({ what, done }: { what: string; done: number }) => {
      if (what === 'answering' && done === 1) stop.abort(new Error('enough'));
    };
    await expect(
      model.evaluate(rows(), { generate: { maxNewTokens }, signal: stop.signal, onProgress }),
    ).rejects.toThrow('enough');
  });

  it('refuses rows that ask nothing, and options that are none', async () => {
    await expect(model.evaluate([{ text: 'x y z' }], { generate: {} })).rejects.toThrow('is a row of text');
    await expect(model.evaluate(rows(), { generate: { limit: 0 } })).rejects.toThrow(
      'evaluate options: key "generate.limit"',
    );
  });

  it('refuses a model of a task', async () => {
    const task = { kind: 'sequence-classification', labels: ['a', 'b'] } as const;
    const classifier = await loadModel('demo', { threads: 1, task });
    await expect(classifier.evaluate(rows(), { generate: {} })).rejects.toThrow(
      'generate: a model for sequence-classification has no text to generate',
    );
    await classifier.close();
  });
});

describe('a file of answers', () => {
  const answer: Answer = {
    line: 1,
    prompt: 'Olá,',
    reference: 'a\nb',
    prediction: '',
    exactMatch: false,
    rougeL: 0,
    tokens: 0,
    reason: 'eos',
  };

  it('has one a line, and is replaced only when asked', async () => {
    const path = join(folder, 'answers.jsonl');
    await savePredictions(path, [answer, { ...answer, line: 2 }]);
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual([answer, { ...answer, line: 2 }]);
    await expect(savePredictions(path, [answer])).rejects.toThrow('answers.jsonl exists already');
    await savePredictions(path, [answer], { overwrite: true });
    expect((await readFile(path, 'utf8')).trimEnd().split('\n')).toHaveLength(1);
    expect((await readdir(folder)).filter((name) => name.includes('answers'))).toEqual(['answers.jsonl']);
  });

  it('is refused where it is the rows, no JSONL, or a folder', async () => {
    const data = join(folder, 'rows.jsonl');
    await writeFile(data, '{}\n');
    await expect(claimPredictions(data, { overwrite: true, inputs: [data] })).rejects.toThrow(
      'rows.jsonl is read from and is not overwritten',
    );
    await expect(claimPredictions(join(folder, 'model.safetensors'))).rejects.toThrow(
      'answers are JSONL, so its name ends in .jsonl',
    );
    await expect(claimPredictions(join(data, 'x.jsonl'))).rejects.toThrow('is not a folder');
  });
});
