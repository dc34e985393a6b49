import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { parseGrid } from './grid.js';
import { chosenRuns, planGrid, withOverrides } from './plan.js';
import { openGrid, readyGrids } from './ready.js';
import { Sources } from './sources.js';

const head = 'name: some\ntitle: Some\n';
const tables = 'tables:\n  - rows: r\n    metrics: [held_out]\n';
const whole = `${head}base: { model: demo, data: demo, target_modules: [q_proj] }\naxes:\n  seed: [0, 1]\n  r: [1, 2]\n${tables}`;
const parse = (text: string) => parseGrid('grid.yaml', text);
const plan = (text: string) => planGrid(parse(text), new Sources());

describe('a grid', () => {
  it('is all combinations of its axes, each run with an id of what it depends on', async () => {
    const runs = await plan(whole);
    expect(runs.map(({ name }) => name)).toEqual([
      'seed=0, r=1',
      'seed=0, r=2',
      'seed=1, r=1',
      'seed=1, r=2',
    ]);
    expect(runs[1].options).toEqual({
      model: 'demo',
      data: 'demo',
      targetModules: ['q_proj'],
      seed: 0,
      r: 2,
    });
    expect(runs[1].labels).toEqual({ seed: '0', r: '2' });
    // q_proj of four layers, 256 x 256.
    expect(runs.map(({ facts }) => facts.trainable)).toEqual([2048, 4096, 2048, 4096]);
    // The demo's 800 rows, three times in batches of 8.
    expect(runs[0].facts.steps).toBe(300);
    expect(new Set(runs.map(({ id }) => id)).size).toBe(4);
    // A default that is written out is the same run; another order of keys too.
    const spelled = whole.replace('base: { ', 'base: { batchSize: 8, loss_on: completion, ');
    expect((await plan(spelled)).map(({ id }) => id)).toEqual(runs.map(({ id }) => id));
    // So is one that begins whatever memory there is.
    const regardless = whole.replace('base: { ', 'base: { ignore_memory: true, ');
    expect((await plan(regardless)).map(({ id }) => id)).toEqual(runs.map(({ id }) => id));
    const other = await plan(whole.replace('base: { ', 'base: { batch_size: 4, '));
    expect(other.map(({ id }) => id).filter((id) => runs.some((run) => run.id === id))).toEqual([]);
  });

  it('may name settings of several options, and of none', async () => {
    const text = whole
      .replace(
        '  r: [1, 2]\n',
        '  what:\n    LoRA: { r: 2 }\n    DoRA, r=4: { method: dora, r: 4 }\n    as it is:\n',
      )
      .replace('rows: r', 'rows: what');
    const runs = await plan(text);
    expect(runs.slice(0, 3).map(({ name, options: { method, r } }) => [name, method, r])).toEqual([
      ['seed=0, what=LoRA', undefined, 2],
      ['seed=0, what=DoRA, r=4', 'dora', 4],
      ['seed=0, what=as it is', undefined, undefined],
    ]);
  });

  it('gives runs without a rank the one that comes nearest to a budget', async () => {
    const text = `${head}base: { model: demo, data: demo }
axes:
  weights:
    q: { target_modules: q_proj }
    v: { target_modules: v_proj }
    all: { target_modules: [q_proj, k_proj, v_proj, o_proj] }
budget:
  parameters_of: { target_modules: q_proj, r: 8 }
  within: 0.2
${tables.replace('rows: r', 'rows: weights')}`;
    const runs = await plan(text);
    // Of four layers: r · (256 + 256), r · (256 + 64), and r times twice both.
    expect(runs.map(({ options: { r }, facts: { trainable } }) => [r, trainable])).toEqual([
      [8, 16_384],
      [13, 16_640],
      [2, 13_312],
    ]);
  });

  it('refuses a run that a budget has no rank for', async () => {
    const text = `${head}base: { model: demo, data: demo }
axes:
  weights: { q: { target_modules: q_proj, r: 8 }, all: { target_modules: all-linear } }
budget: { parameters_of: { target_modules: q_proj, r: 8 }, within: 0.05 }
${tables.replace('rows: r', 'rows: weights')}`;
    await expect(plan(text)).rejects.toThrow(
      /^some, run "weights=all": it trains \d+ parameters with r=\d, \d+% away from the budget of 16384: more than 5%$/,
    );
  });

  it.each([
    ['colour: red\n', 'grid.yaml line 3: unknown key "colour"'],
    [
      'base: { lerning_rate: 1 }\n',
      'grid.yaml line 3: unknown key "lerning_rate", did you mean "learning_rate"?',
    ],
    ['base: { num_train_epochs: 3 }\n', 'grid.yaml line 3: unknown key "num_train_epochs", here "epochs"'],
    ['base: { output: out }\n', 'grid.yaml line 3: unknown key "output"'],
    ['base: { r: many }\n', 'grid.yaml line 3: key "r": expected a whole number above 0, or auto'],
    ['base: 3\n', 'grid.yaml line 3: base: expected options as "key: value"'],
    [
      'axes: { lora_alhpa: [1, 2] }\n',
      'grid.yaml line 3: axis "lora_alhpa" is no option, did you mean "lora_alpha"?; a list needs an option, named settings do not',
    ],
    ['axes:\n  r: 4\n', 'grid.yaml line 4: axis "r": expected a list of values, or named settings'],
    ['axes:\n  r: []\n', 'grid.yaml line 4: axis "r": expected a list of values, or named settings'],
    ['axes:\n  r: [1, -2]\n', 'grid.yaml line 4: axis "r": expected a number above 0'],
    ['axes:\n  r: [1, 1]\n', 'grid.yaml line 4: axis "r" has 1 twice'],
    [
      'axes:\n  what: { a: { metod: lora } }\n',
      'grid.yaml line 4: unknown key "metod", did you mean "method"?',
    ],
    ['axes:\n  what: { a: lora }\n', 'grid.yaml line 4: a: expected options as "key: value"'],
    ['axes:\n  r: [1]\n  what: { a: { r: 2 } }\n', 'grid.yaml line 3: the axes "r" and "what" both set r'],
    ['axes:\n  r: [1]\n  r: [2]\n', 'grid.yaml line 5: Map keys must be unique'],
    ['budget: { within: 0.1 }\n', 'grid.yaml line 3: the key "parameters_of" is missing'],
    ['budget: { parameters_of: { lora_rank: 8 } }\n', 'grid.yaml line 3: unknown key "lora_rank", here "r"'],
  ])('with %j is refused', (more, message) => {
    const text = head + more + (more.includes('axes') ? tables : `axes: { r: [1] }\n${tables}`);
    expect(() => parse(text)).toThrow(UserError);
    expect(() => parse(text)).toThrow(message);
  });

  it.each([
    ['', 'grid.yaml: the key "name" is missing'],
    ['name: some\n', 'grid.yaml: the key "title" is missing'],
    ['name: Some Name\n', 'grid.yaml line 1: name: expected small letters, digits and hyphens'],
    [head, 'grid.yaml: the key "tables" is missing'],
    [
      `${head}tables: [{ rows: r, metrcs: [held_out] }]\n`,
      'grid.yaml line 3: tables: unknown key "0.metrcs", did you mean "metrics"?',
    ],
    [
      `${head}axes: { seed: [1] }\n${tables}`,
      'grid.yaml: a table names the axis "r", which there is not; expected one of seed',
    ],
    [
      whole.replace('held_out', 'heldout'),
      'grid.yaml: a table names the metric "heldout", which there is not; did you mean "heldOut"?',
    ],
    [
      whole.replace('held_out', 'held_outt'),
      'grid.yaml: a table names the metric "held_outt", which there is not; did you mean "held_out"?',
    ],
    [
      `${whole}    paper: { columns: [a], values: { "3": [1] } }\n`,
      'grid.yaml: a table names the row "3", which there is not; did you mean "1"?',
    ],
    [
      `${whole}    paper: { columns: [a], values: { "1": [1, 2] } }\n`,
      'grid.yaml: the paper\'s row "1" has 2 values for 1 columns',
    ],
  ])('of %j is refused', (text, message) => {
    expect(() => parse(text)).toThrow(UserError);
    expect(() => parse(text)).toThrow(message);
  });

  it.each([
    ['model: demo, ', '', 'some, run "seed=0, r=1": the option "model" is missing'],
    ['data: demo, ', '', 'some, run "seed=0, r=1": the option "data" is missing'],
    [
      'data: demo',
      'data: nowhere.jsonl',
      'some, run "seed=0, r=1": cannot read nowhere.jsonl: there is no such file or folder',
    ],
    [
      'data: demo',
      'data: demo, rows: 900',
      `train.jsonl has 800 rows, fewer than the 900 that are asked for`,
    ],
    [
      'data: demo',
      'data: demo, num_virtual_tokens: 4',
      'some, run "seed=0, r=1": the option "numVirtualTokens" is not for method lora',
    ],
    ['[q_proj]', '[qproj]', 'some, run "seed=0, r=1": '],
    [
      'seed: [0, 1]',
      'what: { a: { batch_size: 8 }, b: }',
      'some, run "what=b, r=1": it is the same as the run "what=a, r=1"',
    ],
  ])('with %j as %j plans nothing', async (before, after, message) => {
    const planned = plan(whole.replace(before, after));
    await expect(planned).rejects.toThrow(UserError);
    await expect(planned).rejects.toThrow(message);
  });

  it.each([
    [
      'kind: latency\n',
      'base: { model: demo, length: 300 }',
      'some, run "what=a": 300 tokens are more than the model\'s 256 positions',
    ],
    [
      'kind: latency\n',
      'base: { model: demo, length: 250, method: prefix, num_virtual_tokens: 8 }',
      'some, run "what=a": 250 tokens behind the method\'s 8 are more than the model\'s 256 positions',
    ],
    [
      'kind: latency\n',
      'base: { model: demo, merged: true }',
      'some, run "what=a": "merged" is for a method that merges, not for the base alone',
    ],
    [
      'kind: latency\n',
      'base: { model: demo, merged: true, method: prompt }',
      'some, run "what=a": "merged" is for a method that merges, not for prompt',
    ],
    [
      'kind: latency\n',
      'base: { model: demo, r: 4 }',
      'some, run "what=a": the option "r" is for a method, and none is named',
    ],
    [
      'kind: latency\n',
      'base: { model: demo, method: houlsby, r: 4 }',
      'some, run "what=a": the option "r" is not for method houlsby',
    ],
    [
      'kind: compare\n',
      'base: { model: demo, data: demo, against: { rr: 4 } }',
      'some, run "what=a": against: unknown key "rr", did you mean "r"?',
    ],
    [
      'kind: compare\n',
      'base: { model: demo, data: demo, against: { r: many } }',
      'some, run "what=a": against: key "r": expected',
    ],
    [
      'kind: compare\n',
      'base: { model: demo, data: demo, against: {} }',
      'some, run "what=a": against: expected an option that differs',
    ],
  ])('of %j with %j plans nothing', async (kind, base, message) => {
    const metric = kind.includes('latency') ? 'ratio' : 'phi_first';
    const planned = plan(
      `${head}${kind}${base}\naxes: { what: { a: } }\ntables: [{ rows: what, metrics: [${metric}] }]\n`,
    );
    await expect(planned).rejects.toThrow(UserError);
    await expect(planned).rejects.toThrow(message);
  });

  it('of comparisons has the trainings that they need before them, each once', async () => {
    const runs = await plan(`${head}kind: compare
base: { model: demo, data: demo, r: 4 }
axes: { pair: { one: { against: { r: 8 } }, other: { r: 8, against: { seed: 1 } } } }
tables: [{ rows: pair, metrics: [phi_first] }]`);
    expect(runs.map(({ kind, options: { r, seed } }) => [kind, r, seed])).toEqual([
      ['train', 4, undefined],
      ['train', 8, undefined],
      ['compare', 4, undefined],
      ['train', 8, 1],
      ['compare', 8, undefined],
    ]);
    expect(runs[2].needs).toEqual([runs[0].id, runs[1].id]);
    expect(runs[4].needs).toEqual([runs[1].id, runs[3].id]);
    const grid = {
      axes: [{ name: 'pair', settings: ['one', 'other'].map((label) => ({ label, options: {} })) }],
    };
    const chosen = chosenRuns(grid, runs, ['pair=one']);
    expect(chosen).toEqual(runs.slice(0, 3));
  });

  it("takes a model, data and seeds of one's own", async () => {
    const own = withOverrides(parse(whole), {
      base: { data: 'a.jsonl', evalSplit: 0.1, maxSteps: 5, model: undefined },
      seeds: [7],
    });
    expect(own.base).toEqual({
      model: 'demo',
      data: 'a.jsonl',
      evalSplit: 0.1,
      maxSteps: 5,
      targetModules: ['q_proj'],
    });
    expect(own.axes[0]).toEqual({ name: 'seed', settings: [{ label: '7', options: { seed: 7 } }] });
    expect(() => withOverrides(parse(whole), { base: { r: 4 } })).toThrow(
      'the grid some sets r on its axis "r" itself',
    );
    const latency = (await readyGrids()).find(({ name }) => name === 'latency')!;
    expect(() => withOverrides(latency, { base: { maxSteps: 3 } })).toThrow(
      'the grid latency is of the kind latency, whose runs have no option "maxSteps"',
    );
  });

  it('is run in part where values are chosen', async () => {
    const runs = await plan(whole);
    const names = (...only: string[]) => chosenRuns(parse(whole), runs, only).map(({ name }) => name);
    expect(names()).toHaveLength(4);
    expect(names('r=2')).toEqual(['seed=0, r=2', 'seed=1, r=2']);
    expect(names('r=2', 'seed=1')).toEqual(['seed=1, r=2']);
    expect(names('r=1', 'r=2', 'seed=1')).toEqual(['seed=1, r=1', 'seed=1, r=2']);
    expect(() => names('r=3')).toThrow('--only r=3: the axis "r" has the values 1, 2');
    expect(() => names('rank=3')).toThrow(
      '--only rank=3: expected an axis and a value, as seed=…; the axes are seed, r',
    );
  });
});

describe('the grids that come along', () => {
  it('are whole, and their names are those of their files', async () => {
    const grids = await readyGrids();
    expect(grids.length).toBeGreaterThan(0);
    for (const grid of grids) {
      const runs = await planGrid(grid, new Sources());
      expect(runs.length).toBeGreaterThan(1);
    }
  });

  it('are no folder of a lab, whose name says what to do with it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lowrank-lab-'));
    await writeFile(join(folder, 'results.sqlite'), '');
    await expect(openGrid(folder)).rejects.toThrow(
      `${folder} is the folder of a lab, not a grid: name its grid`,
    );
    await rm(folder, { recursive: true });
  });

  it('and those of docs/paper, whose models and rows are not here, are grids', async () => {
    const folder = fileURLToPath(new URL('../../docs/paper/grids/', import.meta.url));
    const names = (await readdir(folder)).filter((name) => name.endsWith('.yaml'));
    expect(names.length).toBeGreaterThan(0);
    for (const name of names)
      expect(`${parseGrid(name, await readFile(join(folder, name), 'utf8')).name}.yaml`).toBe(name);
  });
});
