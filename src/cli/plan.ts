import * as z from 'zod';
import { methodShape } from '../api/job.js';
import { type Plan, plan as planJob } from '../api/plan.js';
import { quantizeOption } from '../api/quantizedBase.js';
import { storedDTypes } from '../base/tensor.js';
import { methods } from '../methods/index.js';
import type { TrainingMemory } from '../train/memory.js';
import { trainSchema } from '../train/options.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { jsonOption } from './options.js';
import type { Terminal } from './terminal.js';
import { bytes, count, percent, short, tableOrList, wrapped } from './text.js';

type Name = keyof typeof methods;

const shape = {
  model: z.string().min(1),
  method: z
    .enum(Object.keys(methods) as [Name, ...Name[]])
    .default('lora')
    .describe('what is trained'),
  allMethods: z.boolean().default(false).describe('count every method'),
  tasks: z.int().default(1000).describe('tasks to store: a model each, or one base and an adapter each'),
  dtype: z
    .enum(storedDTypes)
    .optional()
    .describe("element type of the base's weights (default: as they are stored)"),
  quantize: quantizeOption,
  json: jsonOption,
};
const { batchSize, microBatchTokens, gradientCheckpointing, checkpointedLayers, packing } = trainSchema.shape;
const trainingShape = {
  batchSize,
  maxLength: z.int().min(2).optional().describe("longest row in tokens (default: 1024 or the model's limit)"),
  microBatchTokens,
  gradientCheckpointing,
  checkpointedLayers,
  packing,
};
const positional = ['model'];

export const plan: CommandSpec = {
  name: 'plan',
  summary: 'count before you train: parameters, checkpoint bytes, memory, storage, from shapes alone',
  description:
    'The model is a folder, a config.json, a .gguf file, a hub id (of which config.json alone is fetched), or one of the ' +
    'shapes that are known by name: gpt2, gpt3, roberta-base, deberta-xxl, llama-7b, mistral-7b and others.',
  positional,
  groups: { Options: shape, Training: trainingShape, Method: methodShape },
  common: [
    ...['method', 'allMethods', 'tasks', 'dtype', 'quantize', 'json', 'r', 'targetModules'],
    ...Object.keys(trainingShape),
  ],
  examples: [
    'lowrank plan gpt3 --r 4 --target-modules q_proj,v_proj',
    'lowrank plan HuggingFaceTB/SmolLM2-135M-Instruct --all-methods',
    'lowrank plan ./my-model --quantize nf4 --max-length 512 --gradient-checkpointing --json',
  ],
  async run(given, terminal) {
    const {
      model,
      json: _,
      ...options
    } = parseOptions(z.object({ ...shape, ...trainingShape }), given, positional);
    const methodOptions = Object.fromEntries(
      Object.keys(methodShape).flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]])),
    );
    const result = await planJob(model, { ...options, methodOptions, ...locating(terminal) });
    terminal.emit(result);
    if (!terminal.json) tell(result, terminal);
    return exitCodes.ok;
  },
};

/** How the parts of a run's memory are counted. */
const HOW: Readonly<Record<Exclude<keyof TrainingMemory, 'total'>, string>> = {
  process: '180 MB + 5 KB a node of the graphs + 1 KB a token of the vocabulary, measured',
  weights: 'what a step reads of them, mapped from the files',
  trained: '5·4·trained + 4·what is fed and does not train',
  feeds: 'mask, rotary tables, tokens',
  activations: "the step's values, placed in the order in which the engine computes them",
  evaluation: 'the same of an evaluation',
};

function tell({ model, method, methods: all, storage, memory }: Plan, terminal: Terminal): void {
  const columns = terminal.columns ?? Number.POSITIVE_INFINITY;
  const say = (rows: readonly (readonly string[])[]) => {
    for (const line of tableOrList(rows, columns)) terminal.say(line);
  };
  const note = (text: string) => {
    for (const line of wrapped(text, columns, '  ')) terminal.say(line);
  };
  const { name, modelType, layers, hiddenSize, heads, vocabSize } = model;
  note(
    `${name} (${modelType}): ${count(layers)} layers, hidden ${count(hiddenSize)}, ${count(heads)} heads, vocabulary ` +
      `${count(vocabSize)}; ${count(model.parameters)} parameters (${short(model.parameters)}), ${bytes(model.bytes.value)}`,
  );
  terminal.say();
  const head = ['method', 'trains', 'of all', 'checkpoint', 'formula'];
  say([
    head,
    ...(all ?? [method]).map((row) =>
      'refused' in row
        ? [row.method, 'cannot', '', '', row.refused]
        : [
            row.method,
            count(row.trainable.value),
            percent(row.share),
            bytes(row.checkpointBytes.value),
            all || row.whole ? row.trainable.formula : `${row.trainable.formula}: ${row.trainable.numbers}`,
          ],
    ),
  ]);
  terminal.say();
  const { gpu, here } = memory;
  const { total, ...figures } = gpu;
  note(
    `memory of ${method.method} on a GPU in mixed precision, as textbooks count (${memory.batchSize} rows of ${memory.maxLength} tokens at once):`,
  );
  say([
    ['what', 'bytes', 'formula'],
    ...Object.entries(figures).map(([what, figure]) => [
      what,
      bytes(figure.value),
      `${figure.formula} = ${figure.numbers}`,
    ]),
    ['total', bytes(total), ''],
  ]);
  terminal.say();
  if (here) {
    const { total: all, ...parts } = here;
    const { rows, length } = memory.micro;
    note(`memory of a run of lowrank on the CPU (${rows} of ${length} tokens at once): ${bytes(all)}`);
    const shown = Object.entries(parts).filter(([, value]) => value > 0);
    say([
      ['what', 'bytes', 'how'],
      ...shown.map(([what, value]) => [what, bytes(value), HOW[what as keyof typeof parts]]),
    ]);
  } else note(`lowrank does not train models of type ${modelType}: its own runs have no forecast`);
  terminal.say();
  note(
    `storage of ${count(storage.tasks)} tasks: ${bytes(storage.full.value)} as a model each, ${bytes(storage.adapters.value)} ` +
      `as one base and a checkpoint each, ${Number(storage.times.toPrecision(3))} times less`,
  );
}
