/** train --find-lr: a learning-rate test in the place of a run. */
import { basename } from 'node:path';
import { flattenJob, type Job, trainOptionsOf } from '../api/job.js';
import { claimLrReport, writeLrReport } from '../api/lrReport.js';
import type { Model } from '../api/model.js';
import { openJob } from '../api/run.js';
import type { WorkOptions } from '../base/work.js';
import type { LrEvent, LrFound, LrRange } from '../train/lrFinder.js';
import { type ExitCode, exitCodes } from './command.js';
import { locating } from './download.js';
import { onInterrupt } from './interrupt.js';
import { asTyped } from './invocation.js';
import { barred, LogPace } from './progress.js';
import { chooseRanks } from './ranks.js';
import { sparkline } from './sparkline.js';
import type { Terminal } from './terminal.js';
import { counted, duration } from './text.js';
import { showsWork } from './work.js';

/** The most characters of the curve. */
const CURVE_WIDTH = 48;
/** Of the first smooth loss: what the highest block stands for. */
const CEILING = 1.25;

interface FindLrOptions extends LrRange {
  overwrite: boolean;
  /** The job's command line, without a learning rate and --find-lr. */
  command: string;
}

/** Runs the test on a job's model and data, and tells what it suggests. */
export async function findLrForJob(
  job: Job,
  terminal: Terminal,
  { overwrite, command, ...range }: FindLrOptions,
): Promise<ExitCode> {
  await claimLrReport(job.output, overwrite);
  const interrupted = new AbortController();
  const onProgress = showsWork(terminal);
  const model = await openJob(job, { ...locating(terminal), onProgress });
  const release = onInterrupt(() => interrupted.abort());
  try {
    const chosen = await chooseRanks(model, job, terminal, interrupted.signal);
    const found = await test(model, chosen, range, terminal, { onProgress, signal: interrupted.signal });
    if (found.end === 'interrupted') {
      terminal.say(`stopped after step ${found.points.length}; nothing was written`);
      return exitCodes.interrupted;
    }
    const files = await writeLrReport(job.output, found, { command, options: flattenJob(chosen) });
    tellFound(found, job.train.learningRate, terminal);
    terminal.say(`figures   ${files[0]}, picture: ${basename(files[1])}`);
    const rate = rounded(found.steepest);
    if (rate !== undefined) terminal.say(`to train with it: ${asTyped(command)} --learning-rate ${rate}`);
    return exitCodes.ok;
  } catch (error) {
    if (!interrupted.signal.aborted || error !== interrupted.signal.reason) throw error;
    terminal.say('stopped before the first step; nothing was written');
    return exitCodes.interrupted;
  } finally {
    release();
    await model.close();
  }
}

async function test(
  model: Model,
  job: Job,
  range: LrRange,
  terminal: Terminal,
  work: WorkOptions,
): Promise<LrFound> {
  const pace = new LogPace();
  const options = { ...trainOptionsOf(job), earlyStoppingPatience: undefined, ...range };
  terminal.say(
    `tries ${counted(range.lrSteps, 'learning rate')} from ${range.minLr} to ${range.maxLr}, for ${model.adapter?.method.name ?? job.method}`,
  );
  for await (const event of model.findLearningRate({ ...options, ...work })) {
    terminal.emit(event);
    if (event.kind === 'lrFound') return event;
    const { isLive, columns } = terminal;
    if (isLive && columns !== undefined) terminal.status(barred(event, stepLines(event), columns - 1));
    else if (pace.due(event)) terminal.say(stepLines(event)[0]);
  }
  throw new Error('the test ended without a result');
}

/** What is told of a step, in a full and a short form. */
function stepLines({ step, steps, learningRate, loss, secondsLeft }: Extract<LrEvent, { kind: 'lrStep' }>) {
  const rate = learningRate.toExponential(1);
  const done = `${String(step).padStart(String(steps).length)}/${steps}`;
  const left = `${duration(secondsLeft)} left`;
  return [
    `step ${done}  learning rate ${rate}  loss ${loss.toFixed(3)}  ${left}`,
    `${done}  ${rate}  ${loss.toFixed(2)}  ${left}`,
  ] as const;
}

function tellFound(
  { points, smooth, steepest, tenthOfLowest, end }: LrFound,
  given: number | undefined,
  terminal: Terminal,
) {
  const first = smooth[0].toFixed(3);
  const room = (terminal.columns ?? Number.POSITIVE_INFINITY) - `loss      ${first} `.length - 1;
  const width = Math.max(1, Math.min(CURVE_WIDTH, room));
  const curve = smooth.map((loss, i) => ({ step: i, loss }));
  const range = { low: Math.min(...smooth), high: Math.min(Math.max(...smooth), CEILING * smooth[0]) };
  const line = sparkline(curve, width, points.length - 1, range);
  const from = String(rounded(points[0].learningRate));
  const to = String(rounded(points[points.length - 1].learningRate));
  terminal.say(`loss      ${first} ${line}`);
  terminal.say(`rate      ${' '.repeat(first.length)} ${from} ${to.padStart(line.length - from.length - 1)}`);
  if (end === 'diverged') terminal.say(`the loss diverged at ${to}`);
  if (steepest === undefined || tenthOfLowest === undefined) {
    terminal.say('the loss never fell: try a lower --min-lr, more --lr-steps or a larger --batch-size');
    return;
  }
  const best = terminal.style('bold', `learning rate ${rounded(steepest)}`);
  terminal.say(`${best}: there the loss falls fastest`);
  terminal.say(
    `          ${rounded(tenthOfLowest)} is a tenth of where it is lowest${given === undefined ? '' : `; the job has ${given}`}`,
  );
}

/** Two digits: the test does not know more. */
function rounded<T extends number | undefined>(rate: T): T {
  return (rate === undefined ? undefined : Number(rate.toPrecision(2))) as T;
}
