import * as z from 'zod';
import { rowFiles } from '../api/job.js';
import type { Grid } from '../lab/grid.js';
import { endedRuns, Lab, type LabRecord, readLab } from '../lab/lab.js';
import { pictureOf } from '../lab/pictures.js';
import { chosenRuns, planGrid, withOverrides } from '../lab/plan.js';
import { openGrid, readyGrids } from '../lab/ready.js';
import type { PlannedRun } from '../lab/run.js';
import { type LabEnd, runLab } from '../lab/runner.js';
import { Sources } from '../lab/sources.js';
import type { StoredRun } from '../lab/store.js';
import { csvOf, jsonOf, markdownOf, tablesOf, textCells } from '../lab/tables.js';
import { type CommandSpec, type ExitCode, exitCodes, parseOptions, UsageError } from './command.js';
import { locating } from './download.js';
import { shellWord, toFlags } from './flags.js';
import { onInterrupt } from './interrupt.js';
import { asTyped } from './invocation.js';
import { tellLabPlan } from './labPlan.js';
import { LabProgress } from './labProgress.js';
import { jsonOption } from './options.js';
import { type PictureChoice, pictureShape, saveChosenPicture } from './picture.js';
import type { Terminal } from './terminal.js';
import { counted, tableOrList } from './text.js';
import { showsWork } from './work.js';

const text = z.string().min(1);

/** What takes the place of a grid's own options. */
const ownShape = {
  model: text
    .meta({ valueName: 'model' })
    .optional()
    .describe('model of all runs, in place of the grid\'s: folder, .gguf file, hub id, or "demo"'),
  data: rowFiles.meta({ valueName: 'file' }).optional().describe("training rows, in place of the grid's"),
  evalData: rowFiles
    .meta({ valueName: 'file' })
    .optional()
    .describe('held-out rows for those (default: a tenth of the training rows)'),
  maxSteps: z.int().positive().optional().describe('optimizer steps of each run'),
  learningRate: z.number().positive().optional().describe('peak learning rate of each run'),
  seeds: z.array(z.int().nonnegative()).min(1).optional().describe('seeds, in place of those of the grid'),
};

const shape = {
  grid: text.optional(),
  output: text
    .meta({ valueName: 'folder' })
    .optional()
    .describe('folder of the lab: one run folder a run, and the results; a lab that is there goes on'),
  workers: z.int().positive().max(64).default(1).describe('runs at once, each in a process of its own'),
  only: z
    .array(text)
    .meta({ valueName: 'axis=value' })
    .optional()
    .describe('only runs with this value, as r=8'),
  dryRun: z
    .boolean()
    .default(false)
    .describe(
      'list the runs, with what each would train and take in memory, and how long those may take that are not done in --output; run nothing',
    ),
  export: z
    .enum(['csv', 'json', 'markdown'])
    .optional()
    .describe(
      'print what is in --output, and run nothing: runs as CSV, everything as JSON, the tables as Markdown',
    ),
  ...pictureShape,
  picture: pictureShape.picture.describe(
    'draw the first table of what is in --output, as SVG or PNG by the name, and run nothing',
  ),
  json: jsonOption,
};
const positional = ['grid'];

export const lab: CommandSpec = {
  name: 'lab',
  summary: 'run a grid of experiments, and make tables of the results',
  description:
    'A grid is a YAML file, or one of those that come along, which are listed without an argument. Runs that are done are ' +
    'not done again: the same command goes on with a lab that was stopped or killed.',
  positional,
  groups: { Options: shape, 'In place of the grid': ownShape },
  examples: [
    'lowrank lab',
    'lowrank lab which-rank --output labs/rank',
    'lowrank lab which-rank --model ./SmolLM2-135M-Instruct --data rows.jsonl --output labs/mine --workers 2',
    'lowrank lab grid.yaml --output labs/grid --only r=8 --dry-run',
    'lowrank lab --output labs/rank --export csv',
  ],
  async run(given, terminal) {
    const { grid: path, output, only = [], ...options } = parseOptions(z.object(shape), given, positional);
    const asked =
      options.export !== undefined ? '--export' : options.picture !== undefined ? '--picture' : undefined;
    if (asked !== undefined) {
      if (output === undefined) throw new UsageError(`${asked} is of a lab: name its folder with --output`);
      if (options.picture !== undefined) return drawLab(output, options, terminal);
      return exportLab(output, options.export!, terminal);
    }
    const stray = ['theme', 'overwrite'].find((name) => given[name] !== undefined);
    if (stray) throw new UsageError(`--${stray} is for --picture`);
    if (path === undefined) return listGrids(terminal);
    const { seeds, evalData, ...base } = z.object(ownShape).parse(given);
    if (evalData !== undefined && base.data === undefined)
      throw new UsageError('--eval-data is for --data: the grid has its own rows');
    const held = base.data === undefined || evalData !== undefined ? { evalData } : { evalSplit: 0.1 };
    const own = { base: { ...base, ...held }, seeds };
    const grid = withOverrides(await openGrid(path), own);
    const sources = new Sources(locating(terminal), { onProgress: showsWork(terminal) });
    const runs = chosenRuns(grid, await planGrid(grid, sources), only);
    if (options.dryRun) {
      const stored = output === undefined ? [] : await endedRuns(output);
      return tellLabPlan(grid, { runs, stored, sources, workers: options.workers }, terminal);
    }
    if (output === undefined) throw new UsageError('--output is missing (see --help)');
    const flags = toFlags({ ...shape, ...ownShape }, { ...given, grid: undefined, json: undefined });
    const command = asTyped(['lowrank lab', shellWord(path), ...flags].join(' '));
    return runGrid(grid, runs, output, { workers: options.workers, command }, terminal);
  },
};

async function listGrids(terminal: Terminal): Promise<ExitCode> {
  const grids = await readyGrids();
  for (const { name, title, reproduces, note, kind } of grids)
    terminal.emit({ name, title, reproduces, note, kind });
  if (terminal.json) return exitCodes.ok;
  const rows = grids.map(({ name, title, reproduces = '' }) => [name, title, reproduces]);
  const lines = tableOrList([['grid', 'what it asks', 'of the paper'], ...rows], columnsOf(terminal));
  for (const line of lines) terminal.say(line);
  terminal.say();
  terminal.say(`to run one: ${asTyped('lowrank lab which-rank --output labs/which-rank')}`);
  return exitCodes.ok;
}

async function runGrid(
  grid: Grid,
  runs: PlannedRun[],
  output: string,
  { workers, command }: { workers: number; command: string },
  terminal: Terminal,
): Promise<ExitCode> {
  const { name, title, reproduces, note, kind, axes, tables } = grid;
  const record: LabRecord = { name, title, reproduces, note, kind, axes, tables, command, runs };
  const lab = await Lab.claim(output, record);
  const interrupted = new AbortController();
  const release = onInterrupt(() => {
    interrupted.abort();
    terminal.say('stopping: the runs under way save a checkpoint; Ctrl-C again stops at once');
  });
  try {
    const progress = new LabProgress(terminal, record, lab.store.runs());
    progress.begin();
    const { signal } = interrupted;
    const end = await runLab(output, runs, lab.store, {
      workers,
      signal,
      onEvent: (event) => progress.show(event),
    });
    terminal.clear();
    tellTables(record, lab.store.runs(), terminal);
    return tellEnd(end, output, command, terminal);
  } finally {
    release();
    await lab.release();
  }
}

function tellEnd({ failed, left }: LabEnd, output: string, command: string, terminal: Terminal): ExitCode {
  terminal.emit({ kind: 'end', failed, left });
  terminal.say();
  if (left > 0) {
    terminal.say(`stopped with ${counted(left, 'run')} to do; to go on: ${command}`);
    return exitCodes.interrupted;
  }
  terminal.say(
    `results   ${output}; as CSV: ${asTyped(`lowrank lab --output ${shellWord(output)} --export csv`)}`,
  );
  if (failed === 0) return exitCodes.ok;
  terminal.say(`${counted(failed, 'run')} failed; to try again: ${command}`);
  return exitCodes.failed;
}

async function exportLab(
  folder: string,
  format: 'csv' | 'json' | 'markdown',
  terminal: Terminal,
): Promise<ExitCode> {
  const { record, store } = await readLab(folder);
  const stored = store.runs();
  store.close();
  if (format === 'csv') terminal.write(csvOf(record, stored));
  else if (format === 'json') terminal.write(`${JSON.stringify(jsonOf(record, stored), null, 1)}\n`);
  else for (const one of tablesOf(record, stored)) terminal.write(`**${one.title}**\n\n${markdownOf(one)}\n`);
  return exitCodes.ok;
}

async function drawLab(folder: string, choice: PictureChoice, terminal: Terminal): Promise<ExitCode> {
  const { record, store } = await readLab(folder);
  const stored = store.runs();
  store.close();
  const { picture, theme, overwrite } = choice;
  await saveChosenPicture({ picture, theme, overwrite }, pictureOf(record, stored), terminal);
  return exitCodes.ok;
}

function tellTables(record: LabRecord, stored: readonly StoredRun[], terminal: Terminal): void {
  for (const one of tablesOf(record, stored)) {
    terminal.emit({ kind: 'table', ...one });
    terminal.say();
    terminal.say(terminal.style('bold', one.title));
    for (const line of tableOrList(textCells(one), columnsOf(terminal))) terminal.say(line);
    if (one.paperNote) terminal.say(`paper: ${one.paperNote}`);
  }
}

function columnsOf(terminal: Terminal): number {
  return terminal.columns ?? Number.POSITIVE_INFINITY;
}
