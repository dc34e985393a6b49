import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type * as z from 'zod';
import type { Adapter } from '../../src/methods/adapter.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { generateTokens, parseGenerateOptions } from '../../src/serve/generate.js';
import { Fixture, LIMITS, openSuite, worst } from './fixture.js';
import { golden, greedySchema, runSchema } from './reference.js';

// Each folder of fixtures/ is a tiny model of one architecture with what PyTorch + PEFT computes on it
// (scripts/parity/make_fixtures.py). A new architecture is a new folder; nothing changes here.

const expectedSchema = runSchema.extend({ greedy: greedySchema });

const { runtime, scratch } = openSuite('tiny');
const cases = readdirSync(golden('fixtures'));

it('has a fixture of every architecture', () => expect(cases.length).toBeGreaterThanOrEqual(7));

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  let adapter: Adapter;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures/${name}`, expectedSchema);
    adapter = await fixture.load();
  });

  async function greedy(merged: boolean): Promise<number[]> {
    const { prompt, tokens } = fixture.expected.greedy;
    const step = await DecodeStep.create(runtime, fixture.model, adapter, { merged });
    const options = parseGenerateOptions('test', { maxNewTokens: tokens.length });
    const out: number[] = [];
    for await (const id of generateTokens(step, fixture.model.config, prompt, options, [])) out.push(id);
    await step.close();
    return out;
  }

  it('base logits', async () => {
    expect(await fixture.logitsError('base_logits')).toBeLessThan(LIMITS.logits);
  });

  it('logits with the adapter', async () => {
    expect(await fixture.logitsError('adapted_logits', adapter)).toBeLessThan(LIMITS.logits);
  });

  it('is read and written back as PEFT wrote it', () =>
    fixture.expectSameFiles(join(scratch, `${name}-adapter`)));

  it('loss and the gradient of every A and B', () => fixture.expectGradients(adapter, fixture.expected.loss));

  it('losses of 20 AdamW steps with clipping, warm-up and cosine', async () => {
    const [first, ...rest] = await fixture.expectRun(await fixture.load(), fixture.expected);
    expect(first.learningRate).toBe(0);
    expect(worst(rest, 'learningRate', fixture.expected.learning_rates.slice(1))).toBeLessThan(1e-12);
  });

  it('a merged model, written and read back', async () => {
    const error = await fixture.mergedError('merged_logits', adapter, join(scratch, name));
    expect(error).toBeLessThan(LIMITS.logits);
  });

  it('greedy tokens with the adapter beside the base', async () => {
    expect(await greedy(false)).toEqual(fixture.expected.greedy.tokens);
  });

  it('greedy tokens with the adapter merged at load', async () => {
    expect(await greedy(true)).toEqual(fixture.expected.greedy.tokens);
  });
});
