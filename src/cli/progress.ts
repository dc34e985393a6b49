import { METRIC_NAMES, METRICS, type Metrics, metricsIn } from '../api/metric.js';
import type { JobEvent } from '../api/run.js';
import type { SampleEvent } from '../api/samples.js';
import { Smoothed } from '../base/smoothed.js';
import type { Terminal } from './terminal.js';
import { count, duration } from './text.js';

type StepEvent = Extract<JobEvent, { kind: 'step' }>;
type EvalEvent = Extract<JobEvent, { kind: 'eval' }>;

/** In a log, one line each tenth of the steps, and after this long without one. */
const LOG_LINES = 10;
const LOG_MS = 30_000;

/** Averages are over about a tenth of a run's steps, and over no more than this: longer ones would lag. */
const MOST_STEPS = 20;

/** Characters of the bar; with fewer to spare there is none. */
const BAR = { least: 6, most: 24 };

/** What a line of progress tells. */
export interface ProgressState {
  step: number;
  steps: number;
  /** The average of the last steps. */
  loss: number;
  /** What the steps measure beside it, averaged alike. */
  measured?: Metrics;
  /** The last one, where there is one, and the step that it is of. */
  heldOut: { loss: number; step: number } | undefined;
  tokensPerSecond: number;
  secondsLeft: number;
}

/** The line of a log. */
export function logLine(state: ProgressState): string {
  const { step, steps, loss, measured = {}, heldOut, tokensPerSecond, secondsLeft } = state;
  const done = `step ${String(step).padStart(String(steps).length)}/${steps}`;
  const losses = `avg loss ${loss.toFixed(3)}${briefOf(measured, 2, '  ')}${heldOut === undefined ? '' : `  held-out ${heldOut.loss.toFixed(3)} at ${heldOut.step}`}`;
  return `${done}  ${losses}  ${count(Math.round(tokensPerSecond))} tokens/s${step < steps ? `  ${duration(secondsLeft)} left` : ''}`;
}

/** What is told of metrics within a line, each behind `between`. */
function briefOf(measured: Metrics, digits: number, between: string): string {
  return METRIC_NAMES.map((name) => {
    const { brief } = METRICS[name];
    const value = measured[name];
    return brief === undefined || value === undefined ? '' : `${between}${brief} ${value.toFixed(digits)}`;
  }).join('');
}

/** The live line, as full as fits into `columns` characters: a bar first, then fewer words, then fewer figures. */
export function liveLine(state: ProgressState, columns: number): string {
  const { step, steps, loss, tokensPerSecond, secondsLeft } = state;
  const done = `${step}/${steps}`;
  const left = duration(secondsLeft);
  const rate = `${count(Math.round(tokensPerSecond))}/s`;
  const texts = [
    logLine(state),
    logLine({ ...state, heldOut: undefined }),
    logLine({ ...state, heldOut: undefined, measured: undefined }),
    `${done}  avg ${loss.toFixed(3)}  ${rate}  ${left} left`,
    `${done} ${loss.toFixed(3)} ${rate} ${left}`,
    `${done}  avg ${loss.toFixed(2)}`,
    `${done}  ${loss.toFixed(2)}`,
    done,
  ];
  return barred(state, texts, columns);
}

/** The first of the texts behind a bar, where `columns` characters have room for one; otherwise the first that fits. */
export function barred(
  { step, steps }: Pick<ProgressState, 'step' | 'steps'>,
  texts: readonly string[],
  columns: number,
): string {
  const room = columns - texts[0].length - '[] '.length;
  if (room >= BAR.least) return `${bar(step / steps, Math.min(room, BAR.most))} ${texts[0]}`;
  return texts.find((text) => text.length <= columns) ?? texts[texts.length - 1].slice(0, columns);
}

/** When a log gets a line: each tenth of the steps, but `leastMs` apart, and each half minute. */
export class LogPace {
  private loggedAt = Date.now();
  private lines = 0;

  constructor(private readonly leastMs = 0) {}

  due({ step, steps }: Pick<ProgressState, 'step' | 'steps'>): boolean {
    const lines = Math.floor((LOG_LINES * step) / steps);
    const passed = Date.now() - this.loggedAt;
    if (passed < (lines === this.lines ? LOG_MS : this.leastMs)) return false;
    this.lines = lines;
    this.loggedAt = Date.now();
    return true;
  }
}

/** Shows a training run: a live line for people who look on, single lines for logs. */
export class Progress {
  private averages: { loss: Smoothed; secondsPerToken: Smoothed } | undefined;
  private readonly measured = new Map<keyof Metrics, Smoothed>();
  private heldOut: ProgressState['heldOut'];
  private readonly pace = new LogPace();

  constructor(private readonly terminal: Terminal) {}

  show(event: JobEvent): void {
    if (event.kind === 'step') this.step(event);
    else if (event.kind === 'eval') this.evaluation(event);
    else if (event.kind === 'sample') this.sample(event);
  }

  private step({ step, steps, loss, tokensPerSecond, secondsLeft, ...event }: StepEvent): void {
    this.averages ??= { loss: averageOf(steps), secondsPerToken: averageOf(steps) };
    const state: ProgressState = {
      step,
      steps,
      loss: this.averages.loss.add(loss),
      measured: this.averageOf(metricsIn(event), steps),
      heldOut: this.heldOut,
      tokensPerSecond: 1 / this.averages.secondsPerToken.add(1 / tokensPerSecond),
      secondsLeft,
    };
    const { isLive, columns } = this.terminal;
    if (isLive && columns !== undefined) {
      // The last column stays free: some terminals wrap where it is written to.
      this.terminal.status(liveLine(state, columns - 1));
      return;
    }
    if (this.pace.due(state)) this.terminal.say(logLine(state));
  }

  /** Averages of what steps measure. */
  private averageOf(metrics: Metrics, steps: number): Metrics {
    const entries = Object.entries(metrics) as [keyof Metrics, number][];
    return Object.fromEntries(
      entries.map(([name, value]) => {
        const mean = this.measured.get(name) ?? averageOf(steps);
        this.measured.set(name, mean);
        return [name, mean.add(value)];
      }),
    );
  }

  private evaluation({ step, loss, best, ...event }: EvalEvent): void {
    this.heldOut = { loss, step };
    const remark = step === 0 ? ' before training' : best ? ' (best so far)' : '';
    const measured = briefOf(metricsIn(event), 3, ', ');
    this.terminal.say(`step ${step}  held-out loss ${loss.toFixed(4)}${measured}${remark}`);
  }

  /** A generation, a line each for its prompt, of which a narrow terminal shows the end, and its text. */
  private sample({ step, prompt, text }: SampleEvent): void {
    const { terminal } = this;
    const head = `step ${step}  `;
    const room = (terminal.columns ?? Number.POSITIVE_INFINITY) - head.length;
    const asked = flat(prompt);
    terminal.say(head + terminal.style('dim', asked.length > room ? `…${asked.slice(1 - room)}` : asked));
    terminal.say(`  ${flat(text)}`);
  }
}

/** An average for a run of so many steps. */
function averageOf(steps: number): Smoothed {
  const span = Math.max(1, Math.min(MOST_STEPS, steps / 10));
  return new Smoothed(2 / (span + 1));
}

/** Text on one line. */
function flat(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' / ');
}

function bar(share: number, width: number): string {
  const full = Math.round(share * width);
  return `[${'='.repeat(full)}${' '.repeat(width - full)}]`;
}
