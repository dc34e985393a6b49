import * as z from 'zod';
import { heldOutLossAt, type LossCurves, trainLossAt } from '../api/curves.js';
import { listRuns, type RunSummary } from '../api/runs.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { jsonOption } from './options.js';
import { rangeOf, sparkline } from './sparkline.js';
import type { Terminal } from './terminal.js';
import { table } from './text.js';

const shape = {
  folder: z.string().min(1),
  json: jsonOption,
};
const positional = ['folder'];

/** Steps at which curves are compared. */
const COLUMNS = 6;
const CURVE_WIDTH = 24;

export const runs: CommandSpec = {
  name: 'runs',
  summary: 'list the training runs in a folder and compare their loss curves',
  description:
    'A run is what train leaves in --output. Training losses are means over the last tenth of the steps.',
  positional,
  groups: { Options: shape },
  examples: ['lowrank runs ./runs', 'lowrank runs my-adapter --json'],
  async run(given, terminal) {
    const { folder } = parseOptions(z.object(shape), given, positional);
    const found = await listRuns(folder);
    for (const run of found) terminal.emit(run);
    if (terminal.json) return exitCodes.ok;
    tellRuns(found, terminal);
    const lastStep = Math.max(...found.map(({ step }) => step));
    if (lastStep === 0) return exitCodes.ok;
    tellCurves('training loss', found, trainLossAt, lastStep, terminal);
    if (found.some(({ curves }) => curves.heldOut.length > 0)) {
      tellCurves('held-out loss', found, heldOutLossAt, lastStep, terminal);
    }
    return exitCodes.ok;
  },
};

function tellRuns(found: readonly RunSummary[], terminal: Terminal): void {
  const rows = found.map(({ name, status, trained, step, steps, curves: { train, heldOut } }) => [
    name,
    status === 'complete' ? 'complete' : 'unfinished',
    trained,
    steps === undefined || steps === step ? String(step) : `${step} of ${steps}`,
    change(train.at(0)?.loss, trainLossAt({ train, heldOut }, step)),
    change(heldOut.at(0)?.loss, heldOut.length > 1 ? rangeOf(heldOut.slice(1)).low : undefined),
  ]);
  for (const line of table([['run', 'status', 'trained', 'steps', 'loss', 'held out'], ...rows]))
    terminal.say(line);
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
  const columns = Math.min(COLUMNS, lastStep);
  const steps = Array.from({ length: columns }, (_, i) => Math.round(((i + 1) * lastStep) / columns));
  const points = found.map(({ curves }) => (lossAt === trainLossAt ? curves.train : curves.heldOut));
  const range = rangeOf(points.flat());
  const rows = found.map(({ name, curves }, i) => [
    name,
    sparkline(points[i], CURVE_WIDTH, lastStep, range).padEnd(CURVE_WIDTH),
    ...steps.map((step) => lossAt(curves, step)?.toFixed(4) ?? '-'),
  ]);
  terminal.say();
  for (const line of table([[title, '', ...steps.map((step) => `step ${step}`)], ...rows]))
    terminal.say(line);
}
