import type { LossCurves } from '../api/curves.js';
import type { JobEvent } from '../api/run.js';
import { curveLines } from './sparkline.js';
import type { Terminal } from './terminal.js';
import { count, duration } from './text.js';

type StepEvent = Extract<JobEvent, { kind: 'step' }>;

/** In a log, one line each tenth of the steps, and after this long without one. */
const LOG_LINES = 10;
const LOG_MS = 30_000;

/** Weight of the newest step in what is shown. */
const SMOOTHING = 0.1;

/** An exponential mean that is not drawn to its start. */
class Smoothed {
  private sum = 0;
  private weight = 0;

  add(value: number): number {
    this.sum += SMOOTHING * (value - this.sum);
    this.weight += SMOOTHING * (1 - this.weight);
    return this.sum / this.weight;
  }
}

/** Characters of the curve at the end. */
const CURVE_WIDTH = 48;

/** Shows a training run: a live line for people who look on, single lines for logs, the loss curve at the end. */
export class Progress {
  private readonly loss = new Smoothed();
  private readonly secondsPerToken = new Smoothed();
  private readonly curves: LossCurves = { train: [], heldOut: [] };
  private heldOut = '';
  private loggedAt = Date.now();
  private loggedLines = 0;

  constructor(private readonly terminal: Terminal) {}

  show(event: JobEvent): void {
    if (event.kind === 'step') this.step(event);
    else if (event.kind === 'eval') this.evaluation(event.step, event.loss, event.best);
    else if (event.kind === 'end') {
      for (const line of curveLines(this.curves, CURVE_WIDTH)) this.terminal.say(line);
    }
  }

  private step(event: StepEvent): void {
    this.curves.train.push({ step: event.step, loss: event.loss });
    const loss = this.loss.add(event.loss).toFixed(3);
    const rate = count(Math.round(1 / this.secondsPerToken.add(1 / event.tokensPerSecond)));
    const left = duration(event.secondsLeft);
    const text = `step ${String(event.step).padStart(String(event.steps).length)}/${event.steps}  loss ${loss}  ${rate} tokens/s  ${left} left${this.heldOut}`;
    if (this.terminal.isLive) {
      this.terminal.status(`${bar(event.step / event.steps)} ${text}`);
      return;
    }
    const lines = Math.floor((LOG_LINES * event.step) / event.steps);
    if (lines === this.loggedLines && Date.now() - this.loggedAt < LOG_MS) return;
    this.loggedLines = lines;
    this.loggedAt = Date.now();
    this.terminal.say(text);
  }

  private evaluation(step: number, loss: number, best: boolean): void {
    this.curves.heldOut.push({ step, loss });
    this.heldOut = `  held-out ${loss.toFixed(2)}`;
    const remark = step === 0 ? ' before training' : best ? ' (best so far)' : '';
    this.terminal.say(`step ${step}  held-out loss ${loss.toFixed(4)}${remark}`);
  }
}

function bar(share: number): string {
  const width = 12;
  const full = Math.round(share * width);
  return `[${'='.repeat(full)}${' '.repeat(width - full)}]`;
}
