/** A lab's table as a picture. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { bars, heatMaps, lineChart, scatter, type Theme } from '../draw/index.js';
import type { DrawingName } from './grid.js';
import type { LabRecord } from './lab.js';
import type { StoredRun } from './store.js';
import { type Cell, type ResultTable, tablesOf } from './tables.js';

type Draw = (
  table: ResultTable,
  words: Words,
  stored: readonly StoredRun[],
  record: LabRecord,
) => (theme: Theme) => string;

interface Words {
  title: string;
  subtitle: string;
}

/** How a table may be drawn, by what its `draw` says. */
const drawings: Readonly<Record<DrawingName, Draw>> = {
  bars: asBars,
  line: asLine,
  scatter: asScatter,
  similarity,
};

/** The picture of a lab's first table. Throws UserError where nothing was done yet. */
export function pictureOf(record: LabRecord, stored: readonly StoredRun[]): (theme: Theme) => string {
  const [table] = tablesOf(record, stored);
  const [spec] = record.tables;
  if (!table.rows.some(({ cells }) => cells.some(({ done }) => done > 0)))
    throw new UserError(`the lab ${record.name} has no results to draw yet`);
  const spread = table.rows.some(({ cells }) => cells.some(({ deviation }) => deviation !== undefined));
  const words = {
    title: record.title,
    subtitle: `${spec.columns ? table.title : table.columns[0].title}${spread ? ', mean and standard deviation' : ''}`,
  };
  return drawings[spec.draw ?? 'bars'](table, words, stored, record);
}

/** The columns that one scale can have: all of an axis, or the first metric. */
function columnsOf(table: ResultTable, { tables: [{ columns }] }: LabRecord): number[] {
  return columns ? [...table.columns.keys()] : [0];
}

function rangeOf({ mean, deviation }: Cell): [number, number] | undefined {
  return mean === undefined || deviation === undefined ? undefined : [mean - deviation, mean + deviation];
}

function asBars(table: ResultTable, words: Words, _: readonly StoredRun[], record: LabRecord) {
  const series = columnsOf(table, record).map((i) => ({
    name: table.columns[i].title,
    values: table.rows.map(({ cells }) => cells[i].mean),
    ranges: table.rows.map(({ cells }) => rangeOf(cells[i])),
  }));
  const groups = table.rows.map(({ label }) => label);
  return (theme: Theme) =>
    bars({ ...words, groups, y: { label: table.columns[0].card.title }, series }, theme);
}

function asLine(table: ResultTable, words: Words, _: readonly StoredRun[], record: LabRecord) {
  const at = (label: string) => {
    const x = Number(label);
    if (Number.isFinite(x)) return x;
    throw new UserError(
      `the axis ${table.rowsAre} has "${label}", which is no number on a line: draw it as bars`,
    );
  };
  const series = columnsOf(table, record).map((i) => ({
    name: table.columns[i].title,
    points: table.rows.flatMap(({ label, cells }): [number, number][] =>
      cells[i].mean === undefined ? [] : [[at(label), cells[i].mean]],
    ),
    band: table.rows.flatMap(({ label, cells }): [number, number, number][] => {
      const range = rangeOf(cells[i]);
      return range ? [[at(label), ...range]] : [];
    }),
    dots: true,
  }));
  const ticks = table.rows.map(({ label }) => at(label));
  const x = { label: table.rowsAre, log: ticks.every((tick) => tick > 0), ticks };
  return (theme: Theme) =>
    lineChart({ ...words, x, y: { label: table.columns[0].card.title }, series }, theme);
}

/** The first metric against the parameters that train. */
function asScatter(table: ResultTable, words: Words) {
  const across = table.columns.findIndex(({ card }) => card.title === 'parameters trained');
  const groups = table.rows.flatMap(({ label, cells }) => {
    const [x, y] = [cells[across]?.mean, cells[0].mean];
    if (x === undefined || y === undefined) return [];
    const yRange = rangeOf(cells[0]);
    // Its name beside it: of many methods some have a colour in common.
    return [{ name: label, points: [{ x, y, label, ...(yRange && { yRange }) }] }];
  });
  const x = { label: 'parameters trained', log: true };
  return (theme: Theme) => scatter({ ...words, x, y: { label: table.columns[0].card.title }, groups }, theme);
}

const phiSchema = z.object({ phi: z.array(z.array(z.number())) });

/** φ(i, j) as a heat map for each row, the mean over its runs. */
function similarity(table: ResultTable, words: Words, stored: readonly StoredRun[], record: LabRecord) {
  const [axis] = record.tables[0].rows;
  const maps = table.rows.flatMap(({ label }) => {
    const ids = new Set(record.runs.filter(({ labels }) => labels[axis] === label).map(({ id }) => id));
    const found = stored.flatMap((run) => {
      const detail = run.status === 'done' && ids.has(run.id) ? phiSchema.safeParse(run.detail) : undefined;
      return detail?.success && detail.data.phi.length > 0 ? [detail.data.phi] : [];
    });
    if (found.length === 0) return [];
    const values = found[0].map((row, i) =>
      row.map((_, j) => found.reduce((sum, phi) => sum + phi[i][j] / found.length, 0)),
    );
    const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i + 1));
    const [rows, columns] = [numbers(values.length), numbers(values[0].length)];
    return [{ title: label, rows, columns, values, rowLabel: 'i', columnLabel: 'j' }];
  });
  const scale = { kind: 'sequential' as const, label: 'φ(i, j)', from: 0, to: 1 };
  const subtitle = 'φ(i, j) of the first i and j directions of A, mean over layers and seeds';
  return (theme: Theme) => heatMaps({ ...words, subtitle, maps, scale }, theme);
}
