/** Experiments as data: a YAML file that names settings to try, and the tables that their results make. */
import * as z from 'zod';
import { type ConfigEntry, ConfigText } from '../api/configFile.js';
import { nearest, UserError } from '../base/errors.js';
import { camelCase, snakeCase } from '../base/names.js';
import { checkJson } from '../formats/io/json.js';
import { type KindName, kindNamed, kinds } from './kinds/index.js';
import type { Setting } from './run.js';

const text = z.string().min(1);

const paperSchema = z.strictObject({
  /** What the paper measured, and on what. */
  note: text.optional(),
  columns: z.array(text).min(1),
  /** By the label of a row. */
  values: z.record(text, z.array(z.union([z.number(), text, z.null()]))),
});

/** How a table may be drawn. */
const drawingNames = ['bars', 'line', 'scatter', 'similarity'] as const;
export type DrawingName = (typeof drawingNames)[number];

/** A table of results. */
export const tableSchema = z.strictObject({
  title: text.optional(),
  /** Axes of which each value, or pair of values, is a row; runs that differ in others are means. */
  rows: z.union([text.transform((name) => [name]), z.array(text).min(1)]),
  /** An axis of which each value is a column; then a cell has the first metric. */
  columns: text.optional(),
  metrics: z.array(text).min(1),
  draw: z.enum(drawingNames).optional(),
  paper: paperSchema.optional(),
});
export type TableSpec = z.output<typeof tableSchema>;

/** What a grid says beside its options. */
const headShape = {
  name: z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'expected small letters, digits and hyphens'),
  title: text,
  /** What of which paper it is like. */
  reproduces: text.optional(),
  note: text.optional(),
  kind: z.enum(Object.keys(kinds) as [KindName]).default('train'),
  tables: z.array(tableSchema).min(1),
};
const headSchema = z.object(headShape);
/** What is read piece by piece: maps of options. */
const OPTION_KEYS = ['base', 'axes', 'budget'];
const anyKeys = z.object(
  Object.fromEntries([...Object.keys(headShape), ...OPTION_KEYS].map((key) => [key, z.unknown()])),
);

export interface Axis {
  name: string;
  settings: Setting[];
}

/** Runs whose numbers of trained parameters have to be alike. */
export interface Budget {
  /** The options whose number of parameters it is. */
  parametersOf: Readonly<Record<string, unknown>>;
  /** How far a run may be away, as a share of it. */
  within: number;
}

export interface Grid extends z.output<typeof headSchema> {
  /** The options that all runs share. */
  base: Readonly<Record<string, unknown>>;
  axes: Axis[];
  budget?: Budget;
}

const WITHIN = 0.1;
const budgetKeys = z.object({ parametersOf: z.unknown(), within: z.number().positive().lt(1).optional() });

/**
 * A grid from the text of its file; `path` names that in errors. Options are those of `lowrank train`, in its spellings.
 * Throws UserError that names file, line and key; where an option does not exist, with the nearest one.
 */
export function parseGrid(path: string, source: string): Grid {
  const config = new ConfigText(path, source);
  config.options(anyKeys);
  const values: Record<string, unknown> = {};
  const entries = new Map(config.entries().flatMap((one) => (one.value === null ? [] : [[one.name, one]])));
  for (const [name, schema] of Object.entries(headShape)) {
    const entry = entries.get(name);
    if (entry) values[name] = checkJson(`${entry.place}: ${entry.key}`, entry.value, schema as z.ZodType);
    else if (!schema.safeParse(undefined).success)
      throw new UserError(`${path}: the key "${name}" is missing`);
  }
  const head = headSchema.parse(values);
  const reader = new GridReader(config, kindNamed(head.kind).options);
  const grid: Grid = {
    ...head,
    base: reader.base(entries.get('base')),
    axes: reader.axes(entries.get('axes')),
    budget: reader.budget(entries.get('budget')),
  };
  for (const table of grid.tables) checkTable(path, grid, table);
  return grid;
}

/** Reads what of a grid is made of options. */
class GridReader {
  constructor(
    private readonly config: ConfigText,
    private readonly options: z.ZodObject,
  ) {}

  base(entry: ConfigEntry | undefined): Record<string, unknown> {
    if (!entry) return {};
    return this.settings(entry);
  }

  axes(entry: ConfigEntry | undefined): Axis[] {
    if (!entry) return [];
    if (!entry.map) throw new UserError(`${entry.place}: expected axes as "name: values"`);
    const axes = this.config.entries(entry.map).map((axis) => this.axis(axis));
    const setBy = new Map<string, string>();
    for (const { name, settings } of axes) {
      for (const option of new Set(settings.flatMap(({ options }) => Object.keys(options)))) {
        const other = setBy.get(option);
        if (other)
          throw new UserError(`${entry.place}: the axes "${other}" and "${name}" both set ${option}`);
        setBy.set(option, name);
      }
    }
    return axes;
  }

  budget(entry: ConfigEntry | undefined): Budget | undefined {
    if (!entry) return undefined;
    if (!entry.map) throw new UserError(`${entry.place}: expected parameters_of and within`);
    const { within = WITHIN } = this.config.options(budgetKeys, entry.map) as { within?: number };
    const of = this.config.entries(entry.map).find(({ name }) => name === 'parametersOf');
    if (!of) throw new UserError(`${entry.place}: the key "parameters_of" is missing`);
    return { parametersOf: this.settings(of), within };
  }

  /** An option with a list of its values, or named settings. */
  private axis({ key, name, place, value, map }: ConfigEntry): Axis {
    if (map) {
      const settings = this.config
        .entries(map)
        .map((entry) => ({ label: entry.key, options: entry.value === null ? {} : this.settings(entry) }));
      if (settings.length === 0) throw new UserError(`${place}: the axis "${key}" has no values`);
      return { name, settings };
    }
    if (!Array.isArray(value) || value.length === 0) {
      throw new UserError(`${place}: axis "${key}": expected a list of values, or named settings`);
    }
    const schema = this.options.shape[name] as z.ZodType | undefined;
    if (!schema) {
      const guess = nearest(name, Object.keys(this.options.shape));
      const hint =
        guess === undefined ? '' : `, did you mean "${key.includes('_') ? snakeCase(guess) : guess}"?`;
      throw new UserError(
        `${place}: axis "${key}" is no option${hint}; a list needs an option, named settings do not`,
      );
    }
    const settings = value.map((item) => {
      const checked = checkJson(`${place}: axis "${key}"`, item, schema);
      return { label: labelOf(item), options: { [name]: checked } };
    });
    const twice = settings.find(({ label }, i) => settings.findIndex((other) => other.label === label) < i);
    if (twice) throw new UserError(`${place}: axis "${key}" has ${twice.label} twice`);
    return { name, settings };
  }

  private settings({ key, place, map }: ConfigEntry): Record<string, unknown> {
    if (!map) throw new UserError(`${place}: ${key}: expected options as "key: value"`);
    return this.config.options(this.options, map);
  }
}

function labelOf(value: unknown): string {
  if (Array.isArray(value)) return value.join(' ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Throws UserError where a table names an axis, a metric or a row that there is not. */
function checkTable(path: string, { axes, kind }: Grid, table: TableSpec): void {
  const labels = new Map(axes.map(({ name, settings }) => [name, settings.map(({ label }) => label)]));
  const check = (what: string, written: string, known: readonly string[], name = written) => {
    if (known.includes(name)) return;
    const spell = (one: string) => (name !== written ? snakeCase(one) : one);
    const guess = nearest(name, known);
    const hint =
      guess === undefined
        ? `expected one of ${known.map(spell).join(', ')}`
        : `did you mean "${spell(guess)}"?`;
    throw new UserError(`${path}: a table names the ${what} "${written}", which there is not; ${hint}`);
  };
  const named = (what: string, written: string, known: readonly string[]) => {
    const name = camelCase(written);
    check(what, written, known, name);
    return name;
  };
  const axesHere = [...labels.keys()];
  table.rows = table.rows.map((name) => named('axis', name, axesHere));
  table.columns &&= named('axis', table.columns, axesHere);
  const metrics = Object.keys(kindNamed(kind).metrics);
  table.metrics = table.metrics.map((name) => named('metric', name, metrics));
  const { columns, values } = table.paper ?? { columns: [], values: {} };
  const rows = rowLabels(table.rows.map((name) => labels.get(name)!));
  for (const [label, found] of Object.entries(values)) {
    check('row', label, rows);
    if (found.length === columns.length) continue;
    throw new UserError(
      `${path}: the paper's row "${label}" has ${found.length} values for ${columns.length} columns`,
    );
  }
}

/** What rows of a table are called: the labels of their axes together. */
export function rowLabels(axes: readonly (readonly string[])[]): string[] {
  return axes.reduce<string[]>(
    (all, labels) => all.flatMap((before) => labels.map((label) => (before ? `${before}, ${label}` : label))),
    [''],
  );
}
