import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { camelCase } from '../../src/base/names.js';
import { parseGenerationConfig } from '../../src/formats/generationConfig.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { generateTokens, parseGenerateOptions } from '../../src/serve/generate.js';
import { processorOf } from '../../src/serve/processors.js';
import { openSuite } from './fixture.js';
import { golden } from './reference.js';

// What transformers' generate makes of a generation_config.json and of the options of a call
// (scripts/parity/make_generate_fixtures.py): scores behind all processors, and greedy tokens of a tiny model.

const scores = z.array(z.number().nullable());
const json = z.record(z.string(), z.unknown());
const setting = { name: z.string(), file: json, call: json };
const schema = z.object({
  eos: z.array(z.int()),
  processed: z.array(
    z.object({
      ...setting,
      said: z.array(z.int()),
      fresh: z.int(),
      rows: z.array(z.object({ scores, after: scores })),
    }),
  ),
  model: z.string(),
  prompt: z.array(z.int()),
  greedy: z.array(z.object({ ...setting, tokens: z.array(z.int()) })),
});
const expected = schema.parse(JSON.parse(await readFile(golden('fixtures-generate/expected.json'), 'utf8')));

function optionsOf({ file, call }: { file: object; call: object }, promptTokens: number) {
  const { settings } = parseGenerationConfig('generation_config.json', { ...file });
  const options = Object.fromEntries(Object.entries(call).map(([key, value]) => [camelCase(key), value]));
  return parseGenerateOptions('options', options, settings, promptTokens);
}

describe('scores behind the processors', () => {
  it.each(expected.processed)('$name', ({ said, fresh, rows, ...setting }) => {
    const process = processorOf(optionsOf(setting, said.length - fresh));
    for (const { scores, after } of rows) {
      const values = Float32Array.from(scores, (score) => score ?? Number.NEGATIVE_INFINITY);
      process(values, { ids: said, fresh, eos: expected.eos });
      // Which of equal ones a cut leaves is torch's choice of an order: their number and their scores are compared.
      const cuts = (values: Iterable<number | null>, of = scores) =>
        [...values].map((value, id) => [of[id] ?? 0, value ?? Number.NEGATIVE_INFINITY]).sort(byPair);
      const [found, wanted] = [cuts(values), cuts(after)];
      for (const [i, [, score]] of wanted.entries()) {
        if (score === Number.NEGATIVE_INFINITY) expect(found[i][1]).toBe(score);
        else expect(found[i][1]).toBeCloseTo(score, 4);
      }
    }
  });
});

function byPair(a: readonly number[], b: readonly number[]): number {
  return a[0] - b[0] || (a[1] === b[1] ? 0 : a[1] < b[1] ? -1 : 1);
}

describe('greedy tokens', () => {
  const { runtime } = openSuite('generate');
  let model: BaseModel;
  beforeAll(async () => {
    model = await openModel(golden(`fixtures/${expected.model}`));
  });

  it.each(expected.greedy)('$name', async ({ tokens, ...setting }) => {
    const { prompt } = expected;
    const step = await DecodeStep.create(runtime, model, undefined);
    const options = optionsOf(setting, prompt.length);
    const out: number[] = [];
    for await (const id of generateTokens(step, model.config, prompt, options, [])) out.push(id);
    await step.close();
    expect(out).toEqual(tokens);
  });
});
