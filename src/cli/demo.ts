import { join } from 'node:path';
import * as z from 'zod';
import { engineShape, resolveJob } from '../api/job.js';
import { demoData } from '../api/locate.js';
import type { Model } from '../api/model.js';
import { readRows } from '../train/data/rows.js';
import { type CommandSpec, parseOptions } from './command.js';
import { shellWord } from './flags.js';
import { jsonOption } from './options.js';
import type { Terminal } from './terminal.js';
import { runTraining } from './train.js';

const SHOWN = 3;
const MAX_NEW_TOKENS = 60;

const shape = {
  output: z
    .string()
    .min(1)
    .meta({ valueName: 'folder' })
    .default('runs/demo')
    .describe('adapter folder; that of an earlier demo is replaced'),
  ...engineShape,
  json: jsonOption,
};

export const demo: CommandSpec = {
  name: 'demo',
  summary: 'fine-tune the small model that comes along on weather reports, and see it learn',
  groups: { Options: shape },
  examples: ['lowrank demo', 'lowrank demo --output my-first-adapter'],
  async run(given, terminal) {
    const { output, quantize, device, threads } = parseOptions(z.object(shape), given);
    const evalData = join(demoData, 'heldout.jsonl');
    const samples = await samplesOf(evalData);
    const job = resolveJob({
      model: 'demo',
      data: join(demoData, 'train.jsonl'),
      evalData,
      output,
      quantize,
      device,
      threads,
      ...hyperParameters,
    });
    const before: string[] = [];
    return runTraining(job, terminal, {
      overwrite: true,
      command: `lowrank demo --output ${shellWord(output)}`,
      prepared: async (model) => {
        terminal.say('asking the model about held-out rows before it trains');
        before.push(...(await answers(model, samples)));
      },
      finished: async (model) => {
        terminal.say();
        const after = await answers(model, samples);
        for (const [i, sample] of samples.entries()) show(sample, before[i], after[i], terminal);
      },
    });
  },
};

/** What the demo trains with; found by trying on its own base. */
const hyperParameters = {
  r: 8,
  loraAlpha: 16,
  targetModules: 'all-linear',
  learningRate: 5e-3,
  warmupRatio: 0.05,
  batchSize: 4,
  epochs: 3,
  evalSteps: 150,
};

interface Sample {
  prompt: string;
  completion: string;
}

async function samplesOf(path: string): Promise<Sample[]> {
  const rows = await readRows(path);
  return rows.flatMap((row) => (row.kind === 'completion' ? [row] : [])).slice(0, SHOWN);
}

async function answers(model: Model, samples: readonly Sample[]): Promise<string[]> {
  const texts: string[] = [];
  for (const { prompt } of samples)
    texts.push(await model.generate(prompt, { maxNewTokens: MAX_NEW_TOKENS }));
  return texts;
}

function show({ prompt, completion }: Sample, before: string, after: string, terminal: Terminal): void {
  terminal.emit({ kind: 'comparison', prompt, completion, before, after });
  terminal.say(terminal.style('dim', prompt));
  for (const [name, text] of [
    ['before', before],
    ['after', after],
    ['expected', completion],
  ]) {
    terminal.say(`  ${terminal.style('bold', name.padEnd(9))} ${text.trim().replace(/\s*\n\s*/g, ' / ')}`);
  }
  terminal.say();
}
