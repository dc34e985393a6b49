import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bytesText } from '../base/text.js';
import { resolveJob } from './job.js';
import { MemoryForecasts } from './jobForecast.js';
import { loadModel } from './loadModel.js';
import { demoData } from './locate.js';

const rows = { data: join(demoData, 'train.jsonl'), evalData: join(demoData, 'heldout.jsonl') };
const job = (given: object = {}) => resolveJob({ model: 'demo', output: 'output', ...rows, ...given });

describe('the memory of a job', () => {
  it('is what training itself forecasts', async () => {
    const forecasts = new MemoryForecasts();
    const given = { r: 4, targetModules: 'all-linear', maxLength: 48 };
    const forecast = await forecasts.of(job(given));
    const model = await loadModel('demo', { threads: 1 });
    await model.addLora({ r: 4, targetModules: 'all-linear' });
    const training = model.train({ ...rows, maxLength: 48, availableMemory: 1e6 });
    await expect(training.next()).rejects.toThrow(`training needs about ${bytesText(forecast!)} of memory`);
    await model.close();
    // What it depends on, and what it does not.
    expect(await forecasts.of(job({ ...given, seed: 3, learningRate: 1 }))).toBe(forecast);
    expect(await forecasts.of(job({ ...given, maxLength: 24 }))).toBeLessThan(forecast!);
    expect(await forecasts.of(job({ ...given, r: 64 }))).toBeGreaterThan(forecast!);
  });

  it('is known of a base before it is quantized', async () => {
    const forecasts = new MemoryForecasts();
    const [whole, quantized] = [await forecasts.of(job()), await forecasts.of(job({ quantize: 'nf4' }))];
    expect(quantized).toBeLessThan(whole!);
  });

  it('is not known where the data choose the ranks', async () => {
    expect(await new MemoryForecasts().of(job({ r: 'auto' }))).toBeUndefined();
  });
});
