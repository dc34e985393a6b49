import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from './loadModel.js';
import type { Model } from './model.js';
import type { ModelTrainOptions } from './modelTrainOptions.js';
import type { SampleEvent } from './samples.js';

const rows = [
  { prompt: 'Oslo, Friday: 12 degrees, rain.', completion: ' Take a coat.' },
  { prompt: 'Oslo, Friday: 12 degrees, rain.', completion: ' Stay in.' },
  { prompt: 'Rome, Monday: 30 degrees, sun.', completion: ' Swim.' },
  { prompt: 'Bern, Sunday: 3 degrees, fog.', completion: ' Sleep.' },
];

describe('generations on the way', () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel('demo', { threads: 1 });
  });
  afterAll(() => model.close());

  const train = async (options: Partial<ModelTrainOptions>) => {
    await model.addLora({ r: 2 });
    const samples: SampleEvent[] = [];
    const losses: number[] = [];
    const events = model.train({
      data: rows,
      maxSteps: 5,
      batchSize: 2,
      learningRate: 0.02,
      sampleMaxTokens: 8,
      ...options,
    });
    for await (const event of events) {
      if (event.kind === 'sample') samples.push(event);
      if (event.kind === 'step') losses.push(event.loss);
    }
    return { samples, losses };
  };

  it('come at the start, each N steps and at the end, and change nothing in the training', async () => {
    const prompt = rows[0].prompt;
    const { samples, losses } = await train({ sampleSteps: 2, samplePrompt: [prompt, 'Rome'] });
    expect(samples.map(({ step, prompt }) => `${step} ${prompt}`)).toEqual(
      [0, 2, 4, 5].flatMap((step) => [`${step} ${prompt}`, `${step} Rome`]),
    );
    // Adapter values are those of the step: without held-out rows the last ones stay.
    const last = samples.findLast((s) => s.prompt === prompt)!;
    expect(last.text).toBe(await model.generate(prompt, { maxNewTokens: 8 }));
    expect(samples[0].text).not.toBe(last.text);
    expect(losses).toEqual((await train({})).losses);
  });

  it('start by default from the first different prompts, of held-out rows where there are some', async () => {
    const promptsOf = async (options: Partial<ModelTrainOptions>) =>
      (await train({ maxSteps: 1, sampleSteps: 9, ...options })).samples.map((s) => s.prompt);
    expect(await promptsOf({})).toEqual([0, 2, 0, 2].map((i) => rows[i].prompt));
    const evalData = rows.slice(3);
    expect(await promptsOf({ evalData })).toEqual([3, 3].map((i) => rows[i].prompt));
    const data = [{ text: 'It rains in Oslo, and it will rain tomorrow and the day after.' }];
    for (const prompt of await promptsOf({ data })) {
      expect(data[0].text.startsWith(prompt.trim())).toBe(true);
      expect(prompt.length).toBeLessThan(data[0].text.length / 2);
    }
  });

  it('are refused without a number of steps', async () => {
    await expect(train({ samplePrompt: ['Rome'] })).rejects.toThrow(
      'training options: there is something to sample, but sampleSteps does not say when',
    );
  });
});
