/** Runs on disk. */
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { UserError } from '../base/errors.js';
import { exists, fileError } from '../formats/io/node.js';
import { sweep } from '../formats/io/staging.js';
import { checkArguments } from './arguments.js';
import { curvesOf, type LossCurves } from './curves.js';
import { type RunWarning, warningsOf } from './outcome.js';
import { RUN_FILE, type RunRecord, readMetrics, readRun } from './runFolder.js';

/** A run as a list shows it. */
export interface RunSummary {
  name: string;
  folder: string;
  status: RunRecord['status'];
  /** What was trained, such as "lora r=8". */
  trained: string;
  /** Steps done, and those planned where a step was done. */
  step: number;
  steps: number | undefined;
  curves: LossCurves;
  /** Of a complete run: why its result may be worth nothing. */
  warnings: RunWarning[];
  /** Every option of the run. */
  options: Record<string, unknown>;
}

/** Options in which runs differ, in the order of the first one's; where they write to tells nothing. */
export function differingOptions(runs: readonly Pick<RunSummary, 'options'>[]): string[] {
  const names = new Set(runs.flatMap(({ options }) => Object.keys(options)));
  names.delete('output');
  return [...names].filter(
    (name) => new Set(runs.map(({ options }) => JSON.stringify(options[name]))).size > 1,
  );
}

/**
 * The runs in a folder, or the one that the folder itself is, by name. Throws UserError where there is none, or one
 * cannot be read.
 */
export async function listRuns(folder: string): Promise<RunSummary[]> {
  checkArguments('listRuns', [folder]);
  await sweep(folder);
  if (await exists(join(folder, RUN_FILE))) return [await summaryOf(folder)];
  const names = await readdir(folder).catch((error: unknown) => {
    throw fileError('read', folder, error);
  });
  const runs: RunSummary[] = [];
  for (const name of names.sort()) {
    const path = join(folder, name);
    await sweep(path);
    const isRun = (await exists(join(path, RUN_FILE))) && (await stat(path)).isDirectory();
    if (isRun) runs.push(await summaryOf(path));
  }
  if (runs.length === 0) throw new UserError(`${folder} holds no runs (folders with a ${RUN_FILE})`);
  return runs;
}

async function summaryOf(folder: string): Promise<RunSummary> {
  const { status, options } = await readRun(folder);
  const metrics = await readMetrics(folder);
  const last = metrics.findLast((m) => m.kind === 'step');
  const rank = options.r === undefined || options.method === 'full' ? '' : ` r=${options.r}`;
  return {
    name: basename(folder),
    folder,
    status,
    trained: `${options.method ?? 'lora'}${rank}`,
    step: last?.step ?? 0,
    steps: last?.steps,
    curves: curvesOf(metrics),
    warnings: status === 'complete' ? warningsOf(metrics) : [],
    options,
  };
}
