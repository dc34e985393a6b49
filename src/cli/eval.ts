import * as z from 'zod';
import { refuseMissing } from '../api/data.js';
import {
  type AnsweringInput,
  answeringShape,
  claimPredictions,
  type Generations,
  savePredictions,
} from '../api/generations.js';
import { chatTemplateOption, dataShape, engineShape, rowFiles } from '../api/job.js';
import { loadModel } from '../api/loadModel.js';
import { METRIC_NAMES, METRICS } from '../api/metric.js';
import { kebabCase } from '../base/names.js';
import { flatObjective, objectiveShape, parseObjective } from '../train/objectives/named.js';
import { type CommandSpec, exitCodes, parseOptions, UsageError } from './command.js';
import { locating } from './download.js';
import { adaptersOption, jsonOption, modelOption, modelOrBase, overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';
import { count, counted } from './text.js';
import { showsWork } from './work.js';

const shape = {
  model: modelOption,
  adapter: adaptersOption.default([]),
  data: rowFiles.meta({ valueName: 'file' }).describe('rows to evaluate on, JSONL as for train'),
  chatTemplate: chatTemplateOption,
  ...dataShape,
  ...objectiveShape,
  ...engineShape,
  json: jsonOption,
};

const answering = {
  generate: z
    .boolean()
    .default(false)
    .describe('also answer the rows, and compare: exact match, BLEU, ROUGE-L'),
  ...answeringShape,
  predictions: z
    .string()
    .min(1)
    .meta({ valueName: 'file' })
    .optional()
    .describe('write each answer beside the one that was wanted to this file (.jsonl)'),
  overwrite: overwriteOption,
};
const all = { ...shape, ...answering };

export const evaluate: CommandSpec = {
  name: 'eval',
  summary:
    'loss and perplexity of a model, with or without an adapter, on your rows, and how well it answers them',
  groups: { Options: shape, Answers: answering },
  examples: [
    'lowrank eval --model ./SmolLM2-135M-Instruct --data held-out.jsonl',
    'lowrank eval --adapter my-adapter --data held-out.jsonl --json',
    'lowrank eval --adapter my-adapter --data held-out.jsonl --generate --limit 100 --predictions answers.jsonl',
  ],
  async run(given, terminal) {
    const options = parseOptions(z.object(all), given);
    const data = [options.data].flat();
    const generate = answersAsked(options, given);
    const predictions = { overwrite: options.overwrite, inputs: data };
    const { adapter, lossOn, addEos, maxLength, quantize, device, threads, chatTemplate } = options;
    const objective = parseObjective('the objective', given);
    const name = await modelOrBase(options.model, adapter, terminal);
    const loading = { quantize, device, threads, chatTemplate, ...locating(terminal) };
    await refuseMissing(data);
    if (options.predictions !== undefined) await claimPredictions(options.predictions, predictions);
    const model = await loadModel(name, loading);
    try {
      await model.loadAdapters(adapter, locating(terminal));
      const result = await model.evaluate(data, {
        maxLength,
        lossOn,
        addEos,
        generate,
        ...flatObjective(objective),
        onProgress: showsWork(terminal),
      });
      const { generations, ...measured } = result;
      const { answers = [], ...scores } = generations ?? {};
      terminal.emit({ model: name, adapter, data, ...measured, ...(generations && { generations: scores }) });
      const { target, loss: unit } = result.units;
      terminal.say(`loss        ${result.loss.toFixed(4)} ${unit}`);
      for (const name of METRIC_NAMES) {
        const { title, digits } = METRICS[name];
        const value = result[name];
        if (value !== undefined) terminal.say(`${title.padEnd(11)} ${value.toFixed(digits)}`);
      }
      terminal.say(
        `${`${target}s`.padEnd(11)} ${count(result.tokens)} predicted, of ${counted(result.rows, 'row')}`,
      );
      if (result.truncated > 0)
        terminal.say(`cut         ${counted(result.truncated, 'example')} (--max-length)`);
      const { dropped, unanswered } = result;
      if (unanswered > 0) terminal.say(`left out    ${count(unanswered)} without a turn of the assistant`);
      if (dropped > unanswered)
        terminal.say(`left out    ${count(dropped - unanswered)} with nothing to predict`);
      if (generations) tellScores(generations, terminal);
      if (options.predictions !== undefined) {
        await savePredictions(options.predictions, answers, predictions);
        terminal.say(`wrote       ${options.predictions}`);
      }
      return exitCodes.ok;
    } finally {
      await model.close();
    }
  },
};

/** How rows are to be answered, if they are. Throws UsageError for an option that has no meaning without answers. */
function answersAsked(
  { generate, maxNewTokens, stop, limit }: z.output<z.ZodObject<typeof all>>,
  given: Readonly<Record<string, unknown>>,
): AnsweringInput | undefined {
  if (generate) return { maxNewTokens, stop, limit };
  const stray = Object.keys(answering).find((name) => given[name] !== undefined && name !== 'generate');
  if (stray) throw new UsageError(`--${kebabCase(stray)} is for --generate`);
  return undefined;
}

function tellScores(
  { exactMatch, bleu, rougeL, answers, cut, dropped, unanswered }: Generations,
  terminal: Terminal,
): void {
  terminal.say(`exact match ${exactMatch.toFixed(4)}`);
  terminal.say(`BLEU        ${bleu.score.toFixed(2)} (${bleu.signature})`);
  terminal.say(`ROUGE-L     ${rougeL.toFixed(4)}`);
  const atLimit = cut > 0 ? `, ${count(cut)} cut at the limit (--max-new-tokens)` : '';
  terminal.say(`answers     ${count(answers.length)}${atLimit}`);
  if (dropped > unanswered)
    terminal.say(
      `unasked     ${counted(dropped - unanswered, 'row')} whose prompt leaves no room for an answer`,
    );
}
