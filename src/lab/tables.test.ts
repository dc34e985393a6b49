import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import type { LabRecord } from './lab.js';
import { pictureOf } from './pictures.js';
import type { StoredRun } from './store.js';
import { csvOf, markdownOf, tablesOf, textCells } from './tables.js';

const labels = ['0', '1', '2'].flatMap((seed) => ['1', '8'].map((r) => ({ seed, r })));
const axis = (name: string, values: string[]) => ({
  name,
  settings: values.map((label) => ({ label, options: {} })),
});
const record: LabRecord = {
  name: 'some',
  title: 'Some <title>',
  kind: 'train',
  command: 'lowrank lab some',
  axes: [axis('seed', ['0', '1', '2']), axis('r', ['1', '8'])],
  tables: [
    {
      rows: ['r'],
      metrics: ['heldOut', 'trainable'],
      paper: { columns: ['acc'], values: { '8': ['a|b'] } },
    },
    { rows: ['r'], columns: 'seed', metrics: ['heldOut'] },
  ],
  runs: labels.map((one) => ({
    id: `${one.seed}${one.r}`,
    name: `seed=${one.seed}, r=${one.r}`,
    kind: 'train',
    labels: one,
    options: {},
    needs: [],
    facts: {},
  })),
};
const done = (id: string, heldOut: number): StoredRun => {
  const { needs: _n, facts: _f, ...run } = record.runs.find((one) => one.id === id)!;
  return { ...run, finished: '', status: 'done', metrics: { heldOut, trainable: 1234 } };
};
const failed = (id: string): StoredRun => {
  const { needs: _n, facts: _f, ...run } = record.runs.find((one) => one.id === id)!;
  return { ...run, finished: '', status: 'failed', error: 'it said "no", twice' };
};
const stored = [done('01', 1), done('11', 2), done('21', 3), done('08', 0.5), failed('18')];

describe('tables of a lab', () => {
  it('have means and sample deviations, what is missing, and the paper beside', () => {
    const [seeds, each] = tablesOf(record, stored);
    // 1, 2, 3: the sample deviation is 1.
    expect(textCells(seeds)).toEqual([
      ['r', 'held-out loss', 'parameters trained', 'paper: acc'],
      ['1', '2.0000 ± 1.0000', '1,234', ''],
      ['8', '0.5000 (1 of 3)', '1,234 (1 of 3)', 'a|b'],
    ]);
    expect(textCells(each).slice(1)).toEqual([
      ['1', '1.0000', '2.0000', '3.0000'],
      ['8', '0.5000', 'failed', '-'],
    ]);
    expect(markdownOf(seeds).split('\n')[3]).toBe('| 8 | 0.5000 (1 of 3) | 1,234 (1 of 3) | a\\|b |');
  });

  it('are CSV with a line for each run that ended', () => {
    expect(csvOf(record, stored).split('\r\n')).toEqual([
      'run,kind,seed,r,status,heldOut,trainable,error',
      '01,train,0,1,done,1,1234,',
      '08,train,0,8,done,0.5,1234,',
      '11,train,1,1,done,2,1234,',
      '18,train,1,8,failed,,,"it said ""no"", twice"',
      '21,train,2,1,done,3,1234,',
      '',
    ]);
  });

  it.each([undefined, 'line', 'scatter'] as const)('are drawn as %s', (draw) => {
    const drawn = { ...record, tables: [{ ...record.tables[0], draw }] };
    const svg = pictureOf(drawn, stored)('light');
    expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\s*$/);
    expect(svg).toContain('Some &#60;title');
    expect(svg).toContain('held-out loss');
    // A point has its name beside it, and in the legend.
    if (draw === 'scatter') expect(svg.match(/class="name"[^>]*>8</g)).toHaveLength(1);
    expect(() => pictureOf(drawn, [failed('01')])).toThrow(UserError);
  });

  it('of comparisons are drawn as heat maps of the mean', () => {
    const compared: LabRecord = {
      ...record,
      kind: 'compare',
      tables: [{ rows: ['r'], metrics: ['phiFirst'], draw: 'similarity' }],
      runs: record.runs.map((run) => ({ ...run, kind: 'compare' })),
    };
    const phi = (id: string, value: number): StoredRun => ({
      ...done(id, 1),
      status: 'done',
      metrics: { phiFirst: value },
      detail: { phi: [[value]] },
    });
    const svg = pictureOf(compared, [phi('01', 0.25), phi('11', 0.75)])('light');
    // One cell, the mean of both.
    expect(svg).toMatch(/>0\.50?</);
  });

  it('whose rows are no numbers are not drawn as a line', () => {
    const words = { ...record, axes: [record.axes[0], axis('r', ['one', '8'])] };
    const runs = record.runs.map((run) => ({
      ...run,
      labels: { ...run.labels, r: run.labels.r === '1' ? 'one' : '8' },
    }));
    const drawn: LabRecord = {
      ...words,
      runs,
      tables: [{ rows: ['r'], metrics: ['heldOut'], draw: 'line' }],
    };
    expect(() => pictureOf(drawn, stored)('light')).toThrow(
      'the axis r has "one", which is no number on a line',
    );
  });
});
