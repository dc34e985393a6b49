import { once } from 'node:events';
import { createInterface } from 'node:readline';
import * as z from 'zod';
import { refuseMissing } from '../api/data.js';
import { engineShape, rowFiles, taskShape } from '../api/job.js';
import { loadModel } from '../api/loadModel.js';
import type { Prediction } from '../api/predict.js';
import { claimFile } from '../api/replace.js';
import { taskAsked } from '../api/task.js';
import { messageOf, UserError } from '../base/errors.js';
import { writeStreamAtomic } from '../formats/io/write.js';
import { type CommandSpec, exitCodes, parseOptions, UsageError } from './command.js';
import { locating } from './download.js';
import { adaptersOption, jsonOption, modelOption, modelOrBase, overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';
import { counted } from './text.js';

const text = z.string().min(1);
const shape = {
  model: modelOption,
  adapter: adaptersOption.default([]),
  merged: z.boolean().default(false).describe('merge the adapters first: same answers, faster'),
  data: rowFiles
    .meta({ valueName: 'file' })
    .optional()
    .describe(
      'rows to tell of: JSONL, JSON, CSV, TSV or Parquet with the columns of training, labels left out',
    ),
  text: z.array(text).default([]).describe('text to tell of, instead of a file'),
  output: text
    .meta({ valueName: 'file' })
    .optional()
    .describe('JSONL file to write the answers into, instead of stdout'),
  overwrite: overwriteOption,
  maxLength: z.int().min(2).optional().describe("longest row in tokens (default: 1024 or the model's limit)"),
  ...taskShape,
  ...engineShape,
  json: jsonOption,
};

export const predict: CommandSpec = {
  name: 'predict',
  summary: 'what a model with a task tells of texts: classes, numbers, labels of words, embeddings',
  description:
    'Without --data and --text it reads stdin: a text a line, or a row of JSON a line.\n' +
    'The task and the labels are those of the adapter, or of the model.',
  groups: { Options: shape },
  examples: [
    'lowrank predict --adapter my-classifier --text "A film to forget."',
    'lowrank predict --adapter my-classifier --data reviews.csv --output answers.jsonl',
    'cat lines.txt | lowrank predict --model ./a-finetuned-bert --json',
    'lowrank predict --model ./all-MiniLM-L6-v2 --data texts.jsonl --output embeddings.jsonl',
  ],
  async run(given, terminal) {
    const options = parseOptions(z.object(shape), given);
    const { adapter, data, output, overwrite, maxLength, quantize, device, threads } = options;
    const task = taskAsked(options);
    const files = data === undefined ? [] : [data].flat();
    if (files.length > 0 && options.text.length > 0)
      throw new UsageError('give either --data or --text, not both');
    await refuseMissing(files);
    if (output !== undefined) await claimFile(output, { overwrite, inputs: files });
    else if (overwrite) throw new UsageError('--overwrite is for --output');
    const name = await modelOrBase(options.model, adapter, terminal);
    const model = await loadModel(name, {
      quantize,
      device,
      threads,
      ...(task && { task }),
      ...locating(terminal),
    });
    try {
      await model.loadAdapters(adapter, locating(terminal));
      if (options.merged) model.merge();
      const texts = options.text.map((text) => ({ text }));
      const source = files.length > 0 ? files : texts.length > 0 ? texts : rowsOfStdin();
      const found = model.predict(source, { maxLength });
      if (output === undefined) await tellAll(found, terminal);
      else await writeAll(found, output, terminal);
      return exitCodes.ok;
    } finally {
      await model.close();
    }
  },
};

/** A row of JSON where a line begins one, else a text. */
async function* rowsOfStdin(): AsyncGenerator<unknown, void, void> {
  let at = 0;
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    at++;
    if (line.trim() === '') continue;
    if (!line.trimStart().startsWith('{')) yield { text: line };
    else {
      try {
        yield JSON.parse(line);
      } catch (error) {
        throw new UserError(`stdin line ${at}: ${messageOf(error)}`);
      }
    }
  }
  if (at === 0) throw new UsageError('there is no --data, no --text and nothing on stdin');
}

async function tellAll(found: AsyncIterable<Prediction>, terminal: Terminal): Promise<void> {
  for await (const prediction of found) {
    terminal.emit(plainOf(prediction));
    terminal.say(lineOf(prediction));
    // A reader that is slower than the model, as `less`.
    if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
  }
}

async function writeAll(found: AsyncIterable<Prediction>, output: string, terminal: Terminal): Promise<void> {
  let rows = 0;
  await writeStreamAtomic(output, async (write) => {
    for await (const prediction of found) {
      await write(Buffer.from(`${JSON.stringify(plainOf(prediction))}\n`));
      terminal.status(`${counted(++rows, 'row')} told`);
    }
  });
  terminal.say(`wrote ${counted(rows, 'row')} to ${output}`);
}

/** Digits that tell every float32 from its neighbours. */
const FLOAT_DIGITS = 9;

/** A prediction as JSON has it: an embedding as a list. */
function plainOf(prediction: Prediction): object {
  if (!('embedding' in prediction)) return prediction;
  const numbers = Array.from(prediction.embedding, (x) => Number(x.toPrecision(FLOAT_DIGITS)));
  return { ...prediction, embedding: numbers };
}

/** Numbers of an embedding that people are shown. */
const SHOWN = 4;

/** One answer for people. */
function lineOf({ row, ...answer }: Prediction): string {
  if ('embedding' in answer) {
    const shown = [...answer.embedding.subarray(0, SHOWN)].map((x) => x.toFixed(4)).join(' ');
    return `${shown} … (${answer.embedding.length})  ${(row as { text: string }).text}`;
  }
  if ('labels' in answer) return answer.labels.map(({ word, label }) => `${word}/${label}`).join(' ');
  const told =
    'value' in answer ? answer.value.toFixed(4) : `${answer.label}  ${answer.probability.toFixed(4)}`;
  const { text = '', pair } = row as { text?: string; pair?: string };
  return `${told}  ${pair === undefined ? text : `${text} | ${pair}`}`;
}
