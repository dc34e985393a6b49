import * as z from 'zod';
import { refuseMissing } from '../api/data.js';
import { chatTemplateOption, dataShape, engineShape, rowFiles } from '../api/job.js';
import { loadModel } from '../api/loadModel.js';
import { METRICS, type Metrics } from '../api/metric.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { adaptersOption, jsonOption, modelOption, modelOrBase } from './options.js';
import { count, counted } from './text.js';
import { showsWork } from './work.js';

const shape = {
  model: modelOption,
  adapter: adaptersOption.default([]),
  data: rowFiles.meta({ valueName: 'file' }).describe('rows to evaluate on, JSONL as for train'),
  chatTemplate: chatTemplateOption,
  ...dataShape,
  ...engineShape,
  json: jsonOption,
};

export const evaluate: CommandSpec = {
  name: 'eval',
  summary: 'loss and perplexity of a model, with or without an adapter, on your rows',
  groups: { Options: shape },
  examples: [
    'lowrank eval --model ./SmolLM2-135M-Instruct --data held-out.jsonl',
    'lowrank eval --adapter my-adapter --data held-out.jsonl --json',
  ],
  async run(given, terminal) {
    const options = parseOptions(z.object(shape), given);
    const data = [options.data].flat();
    const { adapter, lossOn, addEos, maxLength, quantize, device, threads, chatTemplate } = options;
    const name = await modelOrBase(options.model, adapter, terminal);
    const loading = { quantize, device, threads, chatTemplate, ...locating(terminal) };
    await refuseMissing(data);
    const model = await loadModel(name, loading);
    try {
      await model.loadAdapters(adapter, locating(terminal));
      const result = await model.evaluate(data, {
        maxLength,
        lossOn,
        addEos,
        onProgress: showsWork(terminal),
      });
      terminal.emit({ model: name, adapter, data, ...result });
      terminal.say(`loss        ${result.loss.toFixed(4)} nats a token`);
      for (const [name, { title, digits }] of Object.entries(METRICS)) {
        const value = result[name as keyof Metrics];
        if (value !== undefined) terminal.say(`${title.padEnd(11)} ${value.toFixed(digits)}`);
      }
      terminal.say(`tokens      ${count(result.tokens)} predicted, of ${counted(result.rows, 'row')}`);
      if (result.truncated > 0)
        terminal.say(`cut         ${counted(result.truncated, 'example')} (--max-length)`);
      const { dropped, unanswered } = result;
      if (unanswered > 0) terminal.say(`left out    ${count(unanswered)} without a turn of the assistant`);
      if (dropped > unanswered)
        terminal.say(`left out    ${count(dropped - unanswered)} with nothing to predict`);
      return exitCodes.ok;
    } finally {
      await model.close();
    }
  },
};
