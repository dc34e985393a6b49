/** What a finished run may not have done, told from its metrics: docs/cli.md has the rules. */
import type { Metric } from './metric.js';

/** Why a result may be worth nothing, and what to try. */
export interface RunWarning {
  kind: 'collapsed' | 'lossRose' | 'lossUnmoved' | 'fewSteps';
  message: string;
}

/** Fewer optimizer steps than this teach little. */
const FEW_STEPS = 20;
/** Losses below are as good as 0: then nothing is left to learn, and a gradient of 0 is no fault. */
const LEARNED = 0.01;
/** Changes of a loss, as a share of where it began, that count as a fall, and as a rise. */
const FALL = 0.01;
const RISE = 0.02;
/** Of training losses of few steps: two batches differ that much. */
const RISE_OF_FEW = 0.25;
/** What of the steps the first and the last training loss are means of. */
const WINDOW = 0.25;
/** At the end so many steps, or a tenth of all, without a gradient are a collapse. */
const COLLAPSED_STEPS = 3;

type Step = Extract<Metric, { kind: 'step' }>;

/** Looks at the metrics of a finished run, also of what came before a resume. */
export function warningsOf(metrics: readonly Metric[]): RunWarning[] {
  const steps = metrics.filter((metric) => metric.kind === 'step');
  if (steps.length === 0) return [];
  const collapsed = collapseOf(steps);
  if (collapsed) return [collapsed];
  return [lossWarning(metrics, steps), fewSteps(steps.length)].filter((warning) => warning !== undefined);
}

function collapseOf(steps: readonly Step[]): RunWarning | undefined {
  const last = steps.slice(-Math.max(COLLAPSED_STEPS, Math.ceil(steps.length / 10)));
  const loss = mean(last);
  if (loss < LEARNED || last.some(({ gradNorm }) => gradNorm > 0)) return undefined;
  const stuck = `the loss is stuck at ${loss.toFixed(4)}`;
  const alive = steps.findLast(({ gradNorm }) => gradNorm > 0);
  return {
    kind: 'collapsed',
    message: alive
      ? `the run collapsed: the gradient is 0 since step ${alive.step + 1}, ${stuck}; try a lower learning rate`
      : `nothing was learned: the gradient was 0 in every step, ${stuck}; look at what is trained (the targets)`,
  };
}

/** Of the held-out loss where there is one, else of the training loss. */
function lossWarning(metrics: readonly Metric[], steps: readonly Step[]): RunWarning | undefined {
  const { what, before, after, noise } = heldOutChange(metrics) ?? trainChange(steps);
  if (after < LEARNED) return undefined;
  const course = `${before.toFixed(4)} -> ${after.toFixed(4)}`;
  if (after - before > Math.max(RISE * before, noise)) {
    return { kind: 'lossRose', message: `${what} rose: ${course}; try a lower learning rate` };
  }
  // Of few steps two batches differ more than what was learned.
  if (noise > 0 && steps.length < FEW_STEPS) return undefined;
  if (before - after >= FALL * before) return undefined;
  return {
    kind: 'lossUnmoved',
    message: `${what} did not move: ${course}; try a higher learning rate (--find-lr looks for one) or more epochs`,
  };
}

interface Change {
  what: string;
  before: number;
  after: number;
  /** What a rise has to be more than. */
  noise: number;
}

/** From the start to the best, which is what is kept. */
function heldOutChange(metrics: readonly Metric[]): Change | undefined {
  const evals = metrics.filter((metric) => metric.kind === 'eval');
  const before = evals.find(({ step }) => step === 0);
  const best = evals.findLast((event) => event.best);
  return before && best && { what: 'the held-out loss', before: before.loss, after: best.loss, noise: 0 };
}

function trainChange(steps: readonly Step[]): Change {
  const size = Math.max(1, Math.floor(WINDOW * steps.length));
  const last = steps.slice(-size);
  const after = mean(last);
  // A loss that jumps at once began where it was before.
  const before = Math.min(steps[0].loss, mean(steps.slice(0, size)));
  const spread = Math.sqrt(mean(last.map(({ loss }) => ({ loss: (loss - after) ** 2 }))));
  const rise = steps.length < FEW_STEPS ? RISE_OF_FEW : RISE;
  return { what: 'the training loss', before, after, noise: Math.max(2 * spread, rise * before) };
}

function fewSteps(steps: number): RunWarning | undefined {
  if (steps >= FEW_STEPS) return undefined;
  const taken =
    steps === 1 ? 'only 1 step was taken, which teaches' : `only ${steps} steps were taken, which teach`;
  return {
    kind: 'fewSteps',
    message: `${taken} little; try more rows, more epochs or a smaller batch size`,
  };
}

function mean(values: readonly { loss: number }[]): number {
  return values.reduce((sum, { loss }) => sum + loss, 0) / values.length;
}
