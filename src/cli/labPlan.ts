/** What a lab's runs would be, before they are begun. */
import { availableMemory } from '../api/memoryCheck.js';
import { secondsOf } from '../lab/forecast.js';
import type { Grid } from '../lab/grid.js';
import { kindNamed } from '../lab/kinds/index.js';
import type { PlannedRun } from '../lab/run.js';
import type { Sources } from '../lab/sources.js';
import type { StoredRun } from '../lab/store.js';
import { type ExitCode, exitCodes } from './command.js';
import type { Terminal } from './terminal.js';
import { bytes, counted, duration, labelled, tableOrList } from './text.js';

/** A lab as it stands. */
export interface LabPlan {
  runs: readonly PlannedRun[];
  /** Those that ended. */
  stored: readonly StoredRun[];
  sources: Sources;
  workers: number;
}

/** A run with its forecasts. */
interface Forecast {
  run: PlannedRun;
  done: boolean;
  /** Bytes. */
  memory?: number;
  seconds?: number;
}

/** Lists the runs, each with what is known of it, and what all of them come to. */
export async function tellLabPlan(
  { title }: Pick<Grid, 'title'>,
  plan: LabPlan,
  terminal: Terminal,
): Promise<ExitCode> {
  const forecasts = await forecastsOf(plan);
  for (const { run, ...told } of forecasts) {
    const { id, name, kind, labels, options, facts } = run;
    terminal.emit({ id, name, kind, labels, options, ...facts, ...told });
  }
  if (terminal.json) return exitCodes.ok;
  const columns = terminal.columns ?? Number.POSITIVE_INFINITY;
  const ended = forecasts.filter(({ done }) => done).length;
  const known = ended > 0 ? `, ${ended} of them done` : '';
  terminal.say(`${title}: ${counted(plan.runs.length, 'run')}${known}`);
  for (const line of tableOrList(tableOf(forecasts), columns)) terminal.say(line);
  terminal.say();
  const lines = [
    ...labelled('memory', memoryText(forecasts, plan.workers), columns),
    ...labelled('time', timeText(forecasts, plan.workers), columns),
  ];
  for (const line of lines) terminal.say(line);
  return exitCodes.ok;
}

async function forecastsOf({ runs, stored, sources }: LabPlan): Promise<Forecast[]> {
  const ended = new Set(stored.flatMap(({ id, status }) => (status === 'done' ? [id] : [])));
  const forecasts: Forecast[] = [];
  for (const run of runs) {
    const done = ended.has(run.id);
    const memory = await kindNamed(run.kind).memory?.(run.options, sources);
    const seconds = done ? undefined : secondsOf(run, stored);
    forecasts.push({
      run,
      done,
      ...(memory !== undefined && { memory }),
      ...(seconds !== undefined && { seconds }),
    });
  }
  return forecasts;
}

function tableOf(forecasts: readonly Forecast[]): (string | number)[][] {
  const facts = [...new Set(forecasts.flatMap(({ run }) => Object.keys(run.facts)))];
  const titles = facts.map((name) => {
    const cards = forecasts.flatMap(({ run }) => kindNamed(run.kind).metrics[name] ?? []);
    return cards[0]?.title ?? name;
  });
  const rows = forecasts.map(({ run, done, memory, seconds }) => [
    run.name,
    ...facts.map((name) => run.facts[name] ?? '-'),
    memory === undefined ? '-' : bytes(memory),
    done ? 'done' : seconds === undefined ? '-' : duration(seconds),
  ]);
  return [['run', ...titles, 'memory', 'time'], ...rows];
}

function memoryText(forecasts: readonly Forecast[], workers: number): string {
  const known = forecasts.flatMap(({ memory }) => memory ?? []);
  if (known.length === 0) return 'only runs that train have a forecast';
  const each = bytes(Math.max(...known));
  const most = workers > 1 ? `${workers} times ${each}` : each;
  return `at most ${most} by forecast; ${bytes(availableMemory())} are free`;
}

function timeText(forecasts: readonly Forecast[], workers: number): string {
  const left = forecasts.filter(({ done }) => !done);
  if (left.length === 0) return 'all runs are done';
  const known = left.flatMap(({ seconds }) => seconds ?? []);
  if (known.length === 0) {
    return 'is told when a run is done: by this command with the --output of the lab';
  }
  const rest = known.reduce((sum, seconds) => sum + seconds, 0) / Math.min(workers, left.length);
  const without = left.length - known.length;
  const more = without > 0 ? `, and ${without} of a kind of which none is done` : '';
  return `about ${duration(rest)} for ${counted(known.length, 'run')} to do${more}, by what those took that are done`;
}
