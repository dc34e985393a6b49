import { describe, expect, it } from 'vitest';
import { plan } from '../plan.js';
import { type Explanation, explain, explainTopics } from './index.js';

const MINUTES = 60_000;

/** What is true of any answer. */
function check({ text, tables, figures, question }: Explanation): void {
  expect(question.length).toBeGreaterThan(5);
  expect(text.length).toBeGreaterThan(0);
  for (const paragraph of text) expect(paragraph).not.toMatch(/NaN|undefined|Infinity|null|\[object/);
  for (const { head, rows } of tables) {
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) {
      expect(row).toHaveLength(head.length);
      for (const cell of row) expect(String(cell)).not.toMatch(/NaN|undefined|Infinity/);
    }
  }
  for (const [name, figure] of Object.entries(figures))
    expect([name, Number.isFinite(figure)]).toEqual([name, true]);
}

async function answer(topic: string): Promise<Readonly<Record<string, number>>> {
  const found = await explain(topic, { seed: 0 });
  check(found);
  return found.figures;
}

describe('the topics', () => {
  it('are twelve questions and the exercises, each by a name of its own', () => {
    const names = explainTopics.map(({ name }) => name);
    expect(names).toHaveLength(13);
    expect(new Set(names).size).toBe(13);
    expect(names.at(-1)).toBe('exercises');
    for (const { name, question } of explainTopics.slice(0, 12)) {
      expect(name).toMatch(/^[a-z-]+$/);
      expect(question).toMatch(/\?$/);
    }
  });

  it('are refused where there is none, with the nearest', async () => {
    await expect(explain('zeros')).rejects.toThrow('there is no topic "zeros"; did you mean "zero"?');
    await expect(explain('quantum')).rejects.toThrow('there are cost, parameters, low-rank');
    await expect(explain('constructor')).rejects.toThrow('there is no topic');
  });
});

// The values of the paper and its guide, each computed by the planner's formulas.
describe('what is counted', () => {
  it('has the figures of the exercises', async () => {
    const { storageTimes, amplification, ...exact } = await answer('exercises');
    expect(exact).toEqual({
      squareFull: 150_994_944,
      squareLora: 98_304,
      squareTimes: 1536,
      smallTimes: 256,
      gpt3R1: 4_718_592,
      gpt3R4: 18_874_368,
      gpt3R8: 37_748_736,
      robertaBase: 294_912,
      robertaLarge: 786_432,
      deberta: 4_718_592,
      adapterHR1: 7_078_080,
      adapterHR8: 40_109_568,
      prefixEmbedding: 3_244_032,
      storageFull: 350e12,
      storageLora: 385e9,
    });
    expect(storageTimes).toBeCloseTo(909.09, 2);
    expect(amplification).toBeCloseTo(21.6, 1);
  });

  it('has the parameters of a matrix and of models, and where the 9.4M come from', async () => {
    expect(await answer('parameters')).toMatchObject({
      matrixFull: 150_994_944,
      matrixLora: 98_304,
      matrixTimes: 1536,
      smallTimes: 256,
      gpt3R4: 18_874_368,
      gpt3R4QueryOnly: 9_437_184,
    });
  });

  it('has the cost of 1,000 tasks', async () => {
    const figures = await answer('cost');
    expect(figures).toMatchObject({ paperFullBytes: 350e12, paperAdapterBytes: 385e9 });
    expect(figures.paperTimes).toBeCloseTo(909.09, 2);
    // Of the shapes themselves, about the same.
    expect(figures.times / figures.paperTimes).toBeCloseTo(1, 1);
    // Memory is the planner's: 16 bytes of what trains, the base in two, activations and logits of a row.
    const [all, trained] = [174_604_259_328, 18_874_368];
    const row = 2 * 2048 * 12_288 * 96 + 2048 * (34 * 12_288 + 5 * 96 * 2048) + 4 * 2048 * 50_257;
    expect(figures.fullTrainingBytes).toBe(16 * all + row);
    expect(figures.loraTrainingBytes).toBe(2 * all + 16 * trained + row);
    const { memory } = await plan('llama-3-1b', {
      method: 'full',
      batchSize: 1,
      maxLength: 2048,
      gradientCheckpointing: true,
    });
    expect(figures.fullRunBytes).toBe(memory.here!.total);
    expect(figures.loraRunBytes).toBeLessThan(figures.fullRunBytes / 5);
  });
});

describe('what is measured on the model that comes along', () => {
  it('zero: with B zero the loss is the base, A has no gradient and B has one; with both zero none has; with both random all have, and another loss', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('zero');
    expect(figures.loraLoss).toBeCloseTo(figures.baseLoss, 5);
    expect(figures.bothZeroLoss).toBeCloseTo(figures.baseLoss, 5);
    expect([figures.loraGradA, figures.bothZeroGradA, figures.bothZeroGradB]).toEqual([0, 0, 0]);
    expect(Math.min(figures.loraGradB, figures.bothRandomGradA, figures.bothRandomGradB)).toBeGreaterThan(
      0.01,
    );
    expect(Math.abs(figures.bothRandomLoss - figures.baseLoss)).toBeGreaterThan(0.01);
    expect(figures.loraAfter).toBeLessThan(figures.bothZeroAfter);
  });

  it('alpha: without a scale the first step grows with r, with α/r it does not, and falls as far as the gradient says', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('alpha');
    expect(figures.plainTimes).toBeGreaterThan(8);
    expect(figures.scaledTimes).toBeGreaterThan(0.6);
    expect(figures.scaledTimes).toBeLessThan(1.6);
    // The same step at r of the first rank, where both scales are 1.
    expect(figures.plainR2).toBe(figures.scaledR2);
    // The gradient of B is the scale times the same matrix.
    expect(figures.plainR32 / figures.scaledR32).toBeCloseTo(16, 2);
    for (const r of [2, 8, 32]) {
      expect(figures[`plainFellR${r}`] / figures[`plainR${r}`]).toBeCloseTo(1, 1);
      expect(figures[`scaledFellR${r}`] / figures[`scaledR${r}`]).toBeCloseTo(1, 1);
    }
  });

  it('low-rank: a few directions hold far more of a change than of a random matrix', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('low-rank');
    for (const role of ['q_proj', 'v_proj']) {
      expect(figures[`${role}Top8`]).toBeGreaterThan(2 * figures[`${role}RandomTop8`]);
      expect(figures[`${role}Of90`]).toBeLessThan(figures[`${role}RandomOf90`] / 2);
    }
  });

  it('rank: parameters grow with r, and two ranks share directions far beyond chance', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('rank');
    expect(figures.parametersR64).toBe(64 * figures.parametersR1);
    expect(figures.phiFirst).toBeGreaterThan(20 * figures.phiRandom);
    for (const r of [1, 4, 16, 64]) expect(figures[`lossR${r}`]).toBeLessThan(4.5);
  });

  it('amplification: W has less of the directions of ΔW than of its own, and ΔW makes them stronger', {
    timeout: 5 * MINUTES,
  }, async () => {
    const { ofChange, ofWeight, ofRandom, amplification } = await answer('amplification');
    expect(ofChange).toBeLessThan(ofWeight / 3);
    expect(ofRandom).toBeLessThan(ofWeight / 3);
    expect(amplification).toBeGreaterThan(1);
  });

  it('latency: merged is the same to rounding, with one node a matrix for the sum; apart takes more', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('latency');
    expect(figures.logitsDifference).toBeLessThan(1e-3);
    expect(figures.logitsChange).toBeGreaterThan(0.1);
    expect(figures.matrices).toBe(28);
    expect(figures.mergedNodes - figures.baseNodes).toBe(figures.matrices);
    expect(figures.apartNodes).toBeGreaterThan(figures.mergedNodes);
    expect(figures.houlsbyNodes).toBeGreaterThan(figures.pfeifferNodes);
    // The base once more, which says what the ratios are worth.
    expect(figures.controlNodes).toBe(figures.baseNodes);
    expect(figures.controlRatio).toBeGreaterThan(0);
  });

  it('weights: choices of one budget are within a fifth of it, and all of them learn', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('weights');
    for (const key of ['q', 'v', 'qv', 'qkvo', 'all']) {
      expect(figures[`${key}Parameters`] / figures.qParameters).toBeLessThan(1.25);
      expect(figures[`${key}Parameters`] / figures.qParameters).toBeGreaterThan(0.8);
      expect(figures[`${key}Loss`]).toBeLessThan(figures.base);
    }
  });

  it('limits: a merged model is right for one of two tasks, and too small a change learns less', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('limits');
    expect(figures.reportsOnCapitals).toBeGreaterThan(figures.capitalsOnCapitals);
    expect(figures.capitalsOnReports).toBeGreaterThan(figures.reportsOnReports);
    expect(figures.mixedApart).toBeLessThan(figures.mixedMerged);
    expect(figures.narrowOnCapitals).toBeGreaterThan(figures.capitalsOnCapitals);
  });

  it('qlora: Llama 2 7B in 13.5 GB and in under a third, and what rounding costs', {
    timeout: MINUTES,
  }, async () => {
    const figures = await answer('qlora');
    expect(figures.float16Bytes).toBe(2 * 6_738_415_616);
    expect(figures.nf4Bytes).toBeLessThan(figures.float16Bytes / 3);
    expect(figures.int8Error).toBeLessThan(0.01);
    expect(figures.nf4Error).toBeGreaterThan(0.05);
    expect(figures.nf4Error).toBeLessThan(0.12);
  });

  it('family: DoRA trains a length a row more, VeRA far less, PiSSA the same', {
    timeout: 5 * MINUTES,
  }, async () => {
    const figures = await answer('family');
    // q, o, gate, up and down of 256, 256, 640, 640 and 256 rows, k and v of 64 each, in four layers.
    expect(figures.doraParameters - figures.loraParameters).toBe(4 * (256 + 64 + 64 + 256 + 640 + 640 + 256));
    expect(figures.pissaParameters).toBe(figures.loraParameters);
    expect(figures.veraParameters).toBeLessThan(figures.loraParameters / 4);
    for (const method of ['lora', 'dora', 'pissa'])
      expect(figures[`${method}Loss`]).toBeLessThan(figures.base);
  });
});
