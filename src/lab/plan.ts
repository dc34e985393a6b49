/** The runs that a grid asks for. */
import { createHash } from 'node:crypto';
import { UserError } from '../base/errors.js';
import { camelCase } from '../base/names.js';
import { methodNamed } from '../methods/index.js';
import type { Axis, Budget, Grid } from './grid.js';
import { type KindName, kindNamed } from './kinds/index.js';
import type { PlannedRun } from './run.js';
import type { Sources } from './sources.js';

/** What takes the place of a grid's own, for one's own model and data. */
export interface GridOverrides {
  /** Options of all runs. */
  base?: Readonly<Record<string, unknown>>;
  seeds?: readonly number[];
}

/**
 * A grid with one's own model, data or seeds. Throws UserError where its runs have no such option, or where an axis sets it.
 */
export function withOverrides(grid: Grid, { base = {}, seeds }: GridOverrides): Grid {
  const given = Object.entries(base).filter(([, value]) => value !== undefined);
  const overridden = new Set(given.map(([name]) => name));
  const known = kindNamed(grid.kind).options.shape;
  const foreign = given.find(([name]) => !Object.hasOwn(known, name));
  if (foreign)
    throw new UserError(
      `the grid ${grid.name} is of the kind ${grid.kind}, whose runs have no option "${foreign[0]}"`,
    );
  for (const { name, settings } of grid.axes) {
    const option = settings.flatMap(({ options }) => Object.keys(options)).find((one) => overridden.has(one));
    if (option) throw new UserError(`the grid ${grid.name} sets ${option} on its axis "${name}" itself`);
  }
  const own = { ...grid.base };
  // Rows to train on come with those that are held out.
  if (overridden.has('data')) for (const name of ['evalData', 'evalSplit']) delete own[name];
  const axes = seeds ? withSeeds(grid.axes, seeds) : grid.axes;
  return { ...grid, base: { ...own, ...Object.fromEntries(given) }, axes };
}

function withSeeds(axes: readonly Axis[], seeds: readonly number[]): Axis[] {
  const seed: Axis = {
    name: 'seed',
    settings: seeds.map((value) => ({ label: String(value), options: { seed: value } })),
  };
  return axes.some(({ name }) => name === 'seed')
    ? axes.map((axis) => (axis.name === 'seed' ? seed : axis))
    : [seed, ...axes];
}

/**
 * All runs of a grid, in the order in which they are done: the last axis turns fastest. Throws UserError where a run's
 * options do not go together, naming the run, or two runs are the same.
 */
export async function planGrid(grid: Grid, sources: Sources): Promise<PlannedRun[]> {
  const budget = grid.budget && (await budgetOf(grid, grid.budget, sources));
  const planned = new Planned(sources);
  for (const { name, labels, options: chosen } of combinations(grid.axes)) {
    try {
      const merged = { ...grid.base, ...chosen };
      const options = budget ? await withinBudget(merged, budget, sources) : merged;
      const needs: string[] = [];
      for (const [i, needed] of (kindNamed(grid.kind).needs?.(options) ?? []).entries()) {
        const training = `${i === 0 ? '' : 'other '}training for ${name}`;
        if (needed) needs.push((await planned.add('train', training, {}, needed, [])).id);
      }
      const { id } = await planned.add(grid.kind, name, labels, options, needs);
      const before = planned.names.get(id);
      if (before !== undefined) throw new UserError(`it is the same as the run "${before}"`);
      planned.names.set(id, name);
    } catch (error) {
      if (error instanceof UserError) throw new UserError(`${grid.name}, run "${name}": ${error.message}`);
      throw error;
    }
  }
  return planned.runs;
}

/** Runs in their order, each once. */
class Planned {
  readonly runs: PlannedRun[] = [];
  /** Of the runs that a grid asks for itself. */
  readonly names = new Map<string, string>();

  constructor(private readonly sources: Sources) {}

  /** The run of these options: a new one, or the one that is there. */
  async add(
    kind: KindName,
    name: string,
    labels: Readonly<Record<string, string>>,
    options: Readonly<Record<string, unknown>>,
    needs: readonly string[],
  ): Promise<PlannedRun> {
    const { identity, facts } = await kindNamed(kind).resolve(options, this.sources);
    const id = idOf([kind, identity]);
    const known = this.runs.find((run) => run.id === id);
    if (known) return known;
    const run = { id, name, kind, labels, options, needs, facts };
    this.runs.push(run);
    return run;
  }
}

interface Combination {
  name: string;
  labels: Record<string, string>;
  options: Record<string, unknown>;
}

function combinations(axes: readonly Axis[]): Combination[] {
  let all: Combination[] = [{ name: '', labels: {}, options: {} }];
  for (const { name: axis, settings } of axes) {
    all = all.flatMap(({ name, labels, options }) =>
      settings.map((setting) => ({
        name: [...(name ? [name] : []), `${axis}=${setting.label}`].join(', '),
        labels: { ...labels, [axis]: setting.label },
        options: { ...options, ...setting.options },
      })),
    );
  }
  return all.map((one) => ({ ...one, name: one.name || 'run' }));
}

/** Twelve digits of a hash, over keys in one order. */
function idOf(identity: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(ordered(identity)))
    .digest('hex')
    .slice(0, 12);
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, ordered(item)]),
  );
}

interface ParameterBudget {
  parameters: number;
  within: number;
}

async function budgetOf(
  grid: Grid,
  { parametersOf, within }: Budget,
  sources: Sources,
): Promise<ParameterBudget> {
  const parameters = await parametersWith({ ...grid.base, ...parametersOf }, sources);
  return { parameters, within };
}

/** The options with the rank that comes nearest to the budget, where they have none. Throws UserError where none is near. */
async function withinBudget(
  options: Readonly<Record<string, unknown>>,
  { parameters, within }: ParameterBudget,
  sources: Sources,
): Promise<Record<string, unknown>> {
  const countOf = (r: unknown) => parametersWith({ ...options, r }, sources);
  let { r } = options;
  if (r === undefined) {
    // The number is the rank's multiple, or nearly: the neighbours of the quotient are enough.
    const guess = Math.max(1, Math.round(parameters / (await countOf(1))));
    const counts = await Promise.all(
      [guess - 1, guess, guess + 1].filter((n) => n > 0).map(async (n) => ({ n, count: await countOf(n) })),
    );
    r = counts.reduce((a, b) => (Math.abs(b.count - parameters) < Math.abs(a.count - parameters) ? b : a)).n;
  }
  const count = await countOf(r);
  const away = Math.abs(count - parameters) / parameters;
  if (away <= within) return { ...options, r };
  throw new UserError(
    `it trains ${count} parameters with r=${r}, ${Math.round(100 * away)}% away from the budget of ${parameters}: more than ${100 * within}%`,
  );
}

async function parametersWith(options: Readonly<Record<string, unknown>>, sources: Sources): Promise<number> {
  const method = methodNamed(String(options.method ?? 'lora'));
  const own = new Set(Object.keys(method.options.shape).map(camelCase));
  const given = Object.entries(options).filter(([name, value]) => own.has(name) && value !== undefined);
  const config = method.parse(`${method.name} configuration`, Object.fromEntries(given));
  if (typeof options.model !== 'string') throw new UserError('the option "model" is missing');
  return sources.trainableOf(options.model, method.name, config);
}

/** The runs whose labels are as `only` says, and those that they need: "r=8"; of one axis any of its values, of several axes all. */
export function chosenRuns(
  grid: Pick<Grid, 'axes'>,
  runs: readonly PlannedRun[],
  only: readonly string[],
): PlannedRun[] {
  if (only.length === 0) return [...runs];
  const wanted = new Map<string, string[]>();
  for (const text of only) {
    const at = text.indexOf('=');
    const name = camelCase(text.slice(0, Math.max(0, at)));
    const axis = grid.axes.find((one) => one.name === name);
    if (!axis) {
      const names = grid.axes.map((one) => one.name);
      throw new UserError(
        `--only ${text}: expected an axis and a value, as ${names[0] ?? 'r'}=…; the axes are ${names.join(', ')}`,
      );
    }
    const label = text.slice(at + 1);
    const labels = axis.settings.map((setting) => setting.label);
    if (!labels.includes(label))
      throw new UserError(`--only ${text}: the axis "${name}" has the values ${labels.join(', ')}`);
    wanted.set(name, [...(wanted.get(name) ?? []), label]);
  }
  const chosen = runs.filter(({ labels }) =>
    [...wanted].every(([axis, values]) => values.includes(labels[axis])),
  );
  const needed = new Set(chosen.flatMap(({ needs }) => needs));
  return runs.filter((run) => chosen.includes(run) || needed.has(run.id));
}
