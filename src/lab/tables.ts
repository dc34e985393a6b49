/** Tables of a lab's results: rows of an axis, means over the runs that differ in others, and the paper's figures beside. */
import { rowLabels, type TableSpec } from './grid.js';
import { kindNamed } from './kinds/index.js';
import type { MetricCard } from './kinds/kind.js';
import type { LabRecord } from './lab.js';
import type { PlannedRun } from './run.js';
import type { StoredRun } from './store.js';

/** What the runs of one cell came to. */
export interface Cell {
  /** How many runs belong here, how many were done, and how many failed. */
  runs: number;
  done: number;
  failed: number;
  /** Of those that were done. */
  mean?: number;
  /** Standard deviation of a sample; absent for fewer than two. */
  deviation?: number;
}

export interface ResultTable {
  title: string;
  /** What a row is: its axes. */
  rowsAre: string;
  columns: { title: string; card: MetricCard }[];
  paperColumns: string[];
  paperNote?: string;
  rows: { label: string; cells: Cell[]; paper: (string | number | null)[] }[];
}

/** The tables that a lab's grid asks for, of the runs that have ended so far. */
export function tablesOf(record: LabRecord, stored: readonly StoredRun[]): ResultTable[] {
  const ended = new Map(stored.map((run) => [run.id, run]));
  return record.tables.map((spec) => tableOf(record, spec, ended));
}

function tableOf(record: LabRecord, spec: TableSpec, ended: ReadonlyMap<string, StoredRun>): ResultTable {
  const cards = kindNamed(record.kind).metrics;
  const labelsOf = (axis: string) =>
    record.axes.find(({ name }) => name === axis)!.settings.map(({ label }) => label);
  const { columns: across, metrics, paper } = spec;
  const columns = across
    ? labelsOf(across).map((label) => ({ title: `${across}=${label}`, metric: metrics[0], label }))
    : metrics.map((metric) => ({ title: cards[metric].title, metric, label: undefined }));
  const rows = rowLabels(spec.rows.map(labelsOf)).map((label) => {
    const inRow = record.runs.filter(
      ({ kind, labels }) =>
        kind === record.kind && spec.rows.map((axis) => labels[axis]).join(', ') === label,
    );
    const cells = columns.map((column) => {
      const runs = inRow.filter(({ labels }) => !across || labels[across] === column.label);
      return cellOf(runs, column.metric, ended);
    });
    return { label, cells, paper: paper?.values[label] ?? (paper?.columns ?? []).map(() => null) };
  });
  return {
    title: spec.title ?? (across ? cards[metrics[0]].title : record.title),
    rowsAre: spec.rows.join(', '),
    columns: columns.map(({ title, metric }) => ({ title, card: cards[metric] })),
    paperColumns: paper?.columns ?? [],
    ...(paper?.note !== undefined && { paperNote: paper.note }),
    // A row of which the grid has no runs is not of this lab: --only left it out.
    rows: rows.filter(({ cells }) => cells.some(({ runs }) => runs > 0)),
  };
}

function cellOf(runs: readonly PlannedRun[], metric: string, ended: ReadonlyMap<string, StoredRun>): Cell {
  const found = runs.flatMap(({ id }) => ended.get(id) ?? []);
  const values = found.flatMap((run) => (run.status === 'done' ? (run.metrics[metric] ?? []) : []));
  const failed = found.filter(({ status }) => status === 'failed').length;
  const cell = { runs: runs.length, done: values.length, failed };
  if (values.length === 0) return cell;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length === 1) return { ...cell, mean };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { ...cell, mean, deviation: Math.sqrt(squares / (values.length - 1)) };
}

/** "0.1234 ± 0.0012"; "-" where nothing was done yet; "(2 of 3)" behind it where some were not. */
export function cellText({ runs, done, failed, mean, deviation }: Cell, { digits }: MetricCard): string {
  if (mean === undefined) return runs > 0 && failed === runs ? 'failed' : '-';
  const figure = (value: number) =>
    digits === undefined ? Math.round(value).toLocaleString('en-US') : value.toFixed(digits);
  const spread =
    deviation === undefined || (digits === undefined && deviation === 0) ? '' : ` ± ${figure(deviation)}`;
  return `${figure(mean)}${spread}${done < runs ? ` (${done} of ${runs})` : ''}`;
}

/** The cells of a table as text, the header first. */
export function textCells(table: ResultTable): string[][] {
  const paper = table.paperColumns.map((name) => `paper: ${name}`);
  const head = [table.rowsAre, ...table.columns.map(({ title }) => title), ...paper];
  const rows = table.rows.map(({ label, cells, paper: values }) => [
    label,
    ...cells.map((cell, i) => cellText(cell, table.columns[i].card)),
    ...values.map((value) => (value === null ? '' : String(value))),
  ]);
  return [head, ...rows];
}

/** A table as Markdown has it. */
export function markdownOf(table: ResultTable): string {
  const [head, ...rows] = textCells(table).map((cells) => cells.map((cell) => cell.replaceAll('|', '\\|')));
  const lines = [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('');
}

/** Every run that ended as a line of CSV: its values on the axes, how it ended, its figures. */
export function csvOf(record: LabRecord, stored: readonly StoredRun[]): string {
  const axes = record.axes.map(({ name }) => name);
  const kinds = [...new Set(record.runs.map(({ kind }) => kind))];
  const named = kinds.flatMap((kind) => Object.keys(kindNamed(kind).metrics));
  const metrics = [...new Set(named)].filter((name) =>
    stored.some((run) => run.status === 'done' && name in run.metrics),
  );
  const ended = new Map(stored.map((run) => [run.id, run]));
  const rows = record.runs.flatMap(({ id, kind, labels }) => {
    const run = ended.get(id);
    if (!run) return [];
    const figures = metrics.map((name) => (run.status === 'done' ? (run.metrics[name] ?? '') : ''));
    const error = run.status === 'failed' ? run.error : '';
    return [[id, kind, ...axes.map((axis) => labels[axis] ?? ''), run.status, ...figures, error]];
  });
  const head = ['run', 'kind', ...axes, 'status', ...metrics, 'error'];
  return [head, ...rows].map((cells) => `${cells.map(csvCell).join(',')}\r\n`).join('');
}

/** As RFC 4180 has it. */
function csvCell(value: string | number): string {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The whole lab as one JSON value: what it is, every run that ended, its tables. */
export function jsonOf(record: LabRecord, stored: readonly StoredRun[]): object {
  const { name, title, reproduces, note, command } = record;
  const ended = new Map(stored.map((run) => [run.id, run]));
  return {
    ...{ name, title, reproduces, note, command },
    tables: tablesOf(record, stored),
    runs: record.runs.flatMap(({ id, facts }) => {
      const run = ended.get(id);
      return run ? [{ ...run, facts }] : [];
    }),
  };
}
