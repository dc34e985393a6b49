import { basename, resolve } from 'node:path';
import * as z from 'zod';
import { runCurvesSvg } from '../api/curveSvg.js';
import { heldOutLossAt, type LossCurves, trainLossAt } from '../api/curves.js';
import { differingOptions, listRuns, type RunSummary } from '../api/runs.js';
import { kebabCase } from '../base/names.js';
import type { Theme } from '../draw/index.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { jsonOption } from './options.js';
import { claimChosenPicture, pictureShape, saveChosenPicture } from './picture.js';
import { rangeOf, sparkline } from './sparkline.js';
import type { Terminal } from './terminal.js';
import { fill, table, tableOrList } from './text.js';

const shape = {
  folder: z.string().min(1),
  ...pictureShape,
  json: jsonOption,
};
const positional = ['folder'];

/** The most steps at which curves are compared, and the most characters of a curve. */
const STEPS = 6;
const CURVE_WIDTH = 24;
/** What a step takes of a line: "step 1000" and the gap before it. */
const STEP_WIDTH = 11;
/** Lines of a log. */
const LOG_COLUMNS = 120;

export const runs: CommandSpec = {
  name: 'runs',
  summary: 'list the training runs in a folder and compare their loss curves',
  description:
    'A run is what train leaves in --output. Training losses are means over the last tenth of the steps.',
  positional,
  groups: { Options: shape },
  examples: [
    'lowrank runs ./runs',
    'lowrank runs ./runs --picture losses.png',
    'lowrank runs my-adapter --json',
  ],
  async run(given, terminal) {
    const { folder, picture, theme, overwrite } = parseOptions(z.object(shape), given, positional);
    await claimChosenPicture({ picture, theme, overwrite });
    const found = await listRuns(folder);
    for (const run of found) terminal.emit(run);
    if (!terminal.json) tellAll(found, terminal);
    const draw = (ground: Theme) => runCurvesSvg(found, basename(resolve(folder)), ground);
    await saveChosenPicture({ picture, theme, overwrite }, draw, terminal);
    return exitCodes.ok;
  },
};

function tellAll(found: readonly RunSummary[], terminal: Terminal): void {
  tellRuns(found, terminal);
  tellWarnings(found, terminal);
  tellDifferences(found, terminal);
  const lastStep = Math.max(...found.map(({ step }) => step));
  if (lastStep === 0) return;
  tellCurves('training loss', found, trainLossAt, lastStep, terminal);
  if (found.some(({ curves }) => curves.heldOut.length > 0))
    tellCurves('held-out loss', found, heldOutLossAt, lastStep, terminal);
}

function tellRuns(found: readonly RunSummary[], terminal: Terminal): void {
  const rows = found.map(({ name, status, trained, step, steps, curves: { train, heldOut } }) => [
    name,
    status === 'complete' ? 'complete' : 'unfinished',
    trained,
    steps === undefined || steps === step ? String(step) : `${step} of ${steps}`,
    change(train.at(0)?.loss, trainLossAt({ train, heldOut }, step)),
    change(heldOut.at(0)?.loss, heldOut.length > 1 ? rangeOf(heldOut.slice(1)).low : undefined),
  ]);
  const head = ['run', 'status', 'trained', 'steps', 'loss', 'held out'];
  for (const line of tableOrList([head, ...rows], columnsOf(terminal))) terminal.say(line);
}

/** What the end of a run said of it, which "complete" does not. */
function tellWarnings(found: readonly RunSummary[], terminal: Terminal): void {
  const warned = found.filter(({ warnings }) => warnings.length > 0);
  if (warned.length === 0) return;
  terminal.say();
  terminal.say('warnings');
  for (const { name, warnings } of warned) {
    for (const { message } of warnings) {
      const words = `  ${name}: ${message}`.split(/(?<=\S) /);
      for (const line of fill(words, columnsOf(terminal), '    ')) terminal.say(line);
    }
  }
}

/** The options in which runs differ: what may explain that their curves do. */
function tellDifferences(found: readonly RunSummary[], terminal: Terminal): void {
  const names = differingOptions(found);
  if (names.length === 0) return;
  terminal.say();
  terminal.say('options that differ');
  for (const { name, options } of found) {
    const values = names.flatMap((option) =>
      options[option] === undefined ? [] : [`${kebabCase(option)} ${valueText(options[option])}`],
    );
    for (const line of fill(`  ${name}: ${values.join(', ')}`.split(/(?<=\S) /), columnsOf(terminal), '    '))
      terminal.say(line);
  }
}

function columnsOf(terminal: Terminal): number {
  return terminal.columns ?? Number.POSITIVE_INFINITY;
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.join(' ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function change(from: number | undefined, to: number | undefined): string {
  return from === undefined || to === undefined ? '-' : `${from.toFixed(4)} -> ${to.toFixed(4)}`;
}

/** One row a run: its curve, all on one scale, and its losses at the same steps as the others'. */
function tellCurves(
  title: string,
  found: readonly RunSummary[],
  lossAt: (curves: LossCurves, step: number) => number | undefined,
  lastStep: number,
  terminal: Terminal,
): void {
  const names = found.map(({ name }) => clipped(name, columnsOf(terminal)));
  const { width, count } = layout(names, lastStep, terminal.columns ?? LOG_COLUMNS);
  const points = found.map(({ curves }) => (lossAt === trainLossAt ? curves.train : curves.heldOut));
  const evenly = (of: number) => Array.from({ length: count }, (_, i) => Math.round(((i + 1) * of) / count));
  // A held-out loss is there at few steps, and shown at those.
  const measured = [...new Set(points.flat().map(({ step }) => step))].filter((step) => step > 0);
  measured.sort((a, b) => a - b);
  const steps =
    lossAt === trainLossAt
      ? evenly(lastStep)
      : [...new Set(evenly(measured.length))].flatMap((nth) => measured[nth - 1] ?? []);
  const range = rangeOf(points.flat());
  const rows = found.map(({ curves }, i) => [
    names[i],
    sparkline(points[i], width, lastStep, range).padEnd(width),
    ...steps.map((step) => lossAt(curves, step)?.toFixed(4) ?? '-'),
  ]);
  terminal.say();
  for (const line of table([[title, '', ...steps.map((step) => `step ${step}`)], ...rows]))
    terminal.say(line);
}

/** The end of a long name, which is where names of one series differ. */
function clipped(name: string, columns: number): string {
  const room = Math.max('held-out loss'.length, Math.floor(columns / 3));
  return name.length <= room ? name : `…${name.slice(name.length - room + 1)}`;
}

/** Characters of a curve, and steps beside it, that a line has room for. */
function layout(
  runNames: readonly string[],
  lastStep: number,
  columns: number,
): { width: number; count: number } {
  const names = Math.max('held-out loss'.length, ...runNames.map((name) => name.length));
  const room = columns - names - 2;
  const width = Math.max(4, Math.min(CURVE_WIDTH, room - STEP_WIDTH));
  const count = Math.min(STEPS, lastStep, Math.floor((room - width) / STEP_WIDTH));
  return { width, count: Math.max(1, count) };
}
