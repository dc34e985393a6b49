import * as z from 'zod';
import { type AdapterInspection, inspect as inspectPath, type ModelInspection } from '../api/inspect.js';
import { methodShape } from '../api/job.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { jsonOption } from './options.js';
import type { Terminal } from './terminal.js';
import { bytes, count, counted, percent, short, table, wrapped } from './text.js';

const shape = { path: z.string().min(1), json: jsonOption };
const loraShape = { r: methodShape.r, targetModules: methodShape.targetModules } as const;
const positional = ['path'];

export const inspect: CommandSpec = {
  name: 'inspect',
  summary: 'describe a model or an adapter: a folder, a GGUF file or a hub id',
  description:
    'For a model: its architecture, the modules that can be targeted, and what a LoRA would train.',
  positional,
  groups: { Options: shape, LoRA: loraShape },
  examples: [
    'lowrank inspect ./SmolLM2-135M-Instruct --r 16 --target-modules all-linear',
    'lowrank inspect my-adapter --json',
  ],
  async run(given, terminal) {
    const { r, targetModules } = given;
    const { path } = parseOptions(z.object(shape), given, positional);
    const methodOptions = Object.fromEntries(
      Object.entries({ r, targetModules }).filter(([, value]) => value !== undefined),
    );
    const found = await inspectPath(path, { methodOptions, ...locating(terminal) });
    terminal.emit(found);
    if (terminal.json) return exitCodes.ok;
    if (found.kind === 'model') tellModel(found, terminal);
    else tellAdapter(found, terminal);
    return exitCodes.ok;
  },
};

function tellModel(model: ModelInspection, terminal: Terminal): void {
  const { config: c, trainable } = model;
  const dtypes = Object.entries(model.dtypes).map(([dtype, n]) => `${dtype} ${bytes(n)}`);
  const rows: [string, string][] = [
    ['architecture', `${c.modelType} (${model.format})`],
    ['parameters', `${count(model.parameters)} (${short(model.parameters)})`],
    ['weights', `${bytes(model.bytes)}: ${dtypes.join(', ')}`],
    ['layers', `${c.layers}, hidden ${c.hiddenSize}, inner ${c.intermediateSize}`],
    ['attention', `${counted(c.heads, 'head')} of ${c.headDim}, ${c.kvHeads} for keys and values`],
    ['vocabulary', `${count(c.vocabSize)}${c.tieWordEmbeddings ? ', embeddings tied' : ''}`],
    ['positions', count(c.maxPositions)],
  ];
  for (const line of table(rows)) terminal.say(line);
  terminal.say();
  const modules = model.modules.map(({ pattern, count: n, in: inputs, out, kind, bias, tiedTo }) => {
    const notes = [kind === 'embedding' && 'embedding', bias && 'bias', tiedTo && 'tied'];
    const shape = kind === 'embedding' ? `${inputs} x ${out}` : `${out} x ${inputs}`;
    return [pattern, `x ${n}`, shape, notes.filter(Boolean).join(', ')];
  });
  for (const line of table([['module', '', 'shape', ''], ...modules])) terminal.say(line);
  terminal.say();
  const { r, targetModules } = trainable.options as { r: number; targetModules: string | string[] };
  const targets = typeof targetModules === 'string' ? targetModules : targetModules.join(', ');
  const lora =
    `LoRA with r ${r} on ${targets} (${counted(trainable.sites, 'module')}) trains ${counted(trainable.parameters, 'parameter')}, ` +
    `${percent(trainable.share)} of the model`;
  for (const line of wrapped(lora, terminal.columns ?? Number.POSITIVE_INFINITY)) terminal.say(line);
}

function tellAdapter(adapter: AdapterInspection, terminal: Terminal): void {
  const { modules } = adapter;
  const rows: [string, string][] = [
    ['adapter', `${adapter.method}, ${adapter.details}`],
    ['base', adapter.base ?? 'not named'],
    ['parameters', `${count(adapter.parameters)}, ${bytes(adapter.bytes)}`],
    ['modules', String(modules.reduce((n, m) => n + m.count, 0))],
  ];
  for (const line of table(rows)) terminal.say(line);
  terminal.say();
  const lines = modules.map((m) => [
    m.pattern,
    `x ${m.count}`,
    `${m.out ?? 'any'} x ${m.in ?? 'any'}`,
    `${m.r}`,
    `${m.scaling}`,
  ]);
  for (const line of table([['module', '', 'shape', 'r', 'scale'], ...lines])) terminal.say(line);
}
