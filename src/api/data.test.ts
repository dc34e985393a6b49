import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { WorkProgress } from '../base/work.js';
import { loadTokenizer, type TokenizerOf } from '../formats/tokenizer.js';
import { heldOutRows } from '../train/data/split.js';
import { causalLm } from '../train/objectives/causalLm.js';
import { type Examples, loadExamples, loadTrainingExamples } from './data.js';

const folder = fileURLToPath(new URL('../formats/fixtures/tokenizer/bytelevel', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'data-'));
const cache = join(root, 'cache');
let tokenizer: TokenizerOf;
beforeAll(async () => {
  tokenizer = { tokenizer: await loadTokenizer(folder), folder, model: folder };
});
beforeEach(() => {
  rmSync(cache, { recursive: true, force: true });
  vi.stubEnv('LOWRANK_CACHE', cache);
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

const rows = Array.from({ length: 30 }, (_, i) => ({
  prompt: `${i} is`,
  completion: i % 2 ? ' odd' : ' even',
}));
const options = { maxLength: 20 };
const linesOf = ({ examples }: Examples) => Array.from(examples, ({ line }) => line);
const cached = () => readdirSync(cache).sort();

/** A file that is large enough to be encoded once and for all: blanks in JSON cost nothing. */
function largeFile(name: string, blanks = 300_000): string {
  const path = join(root, name);
  const line = (row: object) => JSON.stringify(row).replace('}', `${' '.repeat(blanks)}}\n`);
  writeFileSync(path, rows.map(line).join(''));
  return path;
}

describe('loadTrainingExamples', () => {
  it('splits a file, an array and a generator alike, each row on one side, its order kept', async () => {
    const path = join(root, 'rows.jsonl');
    writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
    async function* generator() {
      yield* rows;
    }
    const heldOut = heldOutRows(30, 0.2, 4);
    const numbers = rows.map((_, i) => i);
    for (const data of [path, rows, generator(), new Set(rows)]) {
      const sources = { data, evalSplit: 0.2, seed: 4 };
      const { train, evaluation } = await loadTrainingExamples(sources, causalLm.reading, tokenizer, options);
      expect(linesOf(train)).toEqual(numbers.filter((i) => !heldOut(i)).map((i) => i + 1));
      expect(linesOf(evaluation!)).toEqual(numbers.filter(heldOut).map((i) => i + 1));
      expect([train.stats.rows, evaluation!.stats.rows]).toEqual([24, 6]);
    }
  });

  it('reads several files as one, and splits them so', async () => {
    const paths = ['one.jsonl', 'two.jsonl'].map((name) => join(root, name));
    writeFileSync(
      paths[0],
      rows
        .slice(0, 10)
        .map((row) => JSON.stringify(row))
        .join('\n'),
    );
    // A file of its own kind.
    writeFileSync(
      paths[1],
      rows
        .slice(10)
        .map(({ prompt }) => JSON.stringify({ text: prompt }))
        .join('\n'),
    );
    const whole = await loadExamples(paths, causalLm.reading, tokenizer, options);
    const texts = await Promise.all(
      paths.map((path) => loadExamples(path, causalLm.reading, tokenizer, options)),
    );
    expect(Array.from(whole.examples, ({ ids }) => [...ids])).toEqual(
      texts.flatMap(({ examples }) => Array.from(examples, ({ ids }) => [...ids])),
    );
    expect(whole.stats.rows).toBe(30);
    const heldOut = heldOutRows(30, 2, 4);
    const sources = { data: paths, evalSplit: 2, seed: 4 };
    const { train, evaluation } = await loadTrainingExamples(sources, causalLm.reading, tokenizer, options);
    const lines = rows.map((_, i) => (i < 10 ? i + 1 : i - 9));
    expect(linesOf(train)).toEqual(lines.filter((_, i) => !heldOut(i)));
    expect(linesOf(evaluation!)).toEqual(lines.filter((_, i) => heldOut(i)));
  });

  it('names the file of several that a row is in', async () => {
    const [one, two] = ['chat1.jsonl', 'chat2.jsonl'].map((name) => join(root, name));
    writeFileSync(one, '{"text":"a"}\n');
    writeFileSync(two, '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n');
    const refusing = tokenizer.tokenizer.withTemplates({ plain: '{{ raise_exception("no") }}' });
    const given = { ...tokenizer, tokenizer: refusing };
    await expect(loadExamples([one, two], causalLm.reading, given, options)).rejects.toThrow(`${two} line 1`);
    writeFileSync(two, '{"text":\n');
    await expect(loadExamples([one, two], causalLm.reading, tokenizer, options)).rejects.toThrow(
      `${two} line 1`,
    );
    await expect(
      loadExamples([one, join(root, 'none')], causalLm.reading, tokenizer, options),
    ).rejects.toThrow(/none: there is no such file/);
  });

  it('finds several files again as they were, in their order', async () => {
    const paths = [largeFile('half1.jsonl', 200_000), largeFile('half2.jsonl', 100_000)];
    const load = (files: string[]) => loadExamples(files, causalLm.reading, tokenizer, options);
    for (const files of [paths, paths]) await (await load(files)).close();
    expect(cached()).toHaveLength(1);
    await (await load([paths[1], paths[0]])).close();
    expect(cached()).toHaveLength(2);
  });

  it('finds both sides of a large file again', async () => {
    const sources = { data: largeFile('large.jsonl'), evalSplit: 6, seed: 4 };
    const load = async () => {
      const { train, evaluation } = await loadTrainingExamples(sources, causalLm.reading, tokenizer, options);
      const result = [[...train.examples], [...evaluation!.examples], train.stats, evaluation!.stats];
      await train.close();
      await evaluation!.close();
      return result;
    };
    const first = await load();
    const files = cached();
    expect(files).toHaveLength(2);
    expect(await load()).toEqual(first);
    expect(cached()).toEqual(files);
    const small = await loadTrainingExamples(
      { ...sources, data: rows },
      causalLm.reading,
      tokenizer,
      options,
    );
    expect(first[0]).toEqual([...small.train.examples]);
  });
});

describe('loadExamples', () => {
  it('encodes a large file anew where anything that its tokens depend on is another', async () => {
    const load = async (path: string, more: object = {}, of = tokenizer) =>
      (await loadExamples(path, causalLm.reading, of, { ...options, ...more })).close();
    const path = largeFile('one.jsonl');
    await load(path);
    expect(cached()).toHaveLength(1);
    utimesSync(path, 0, 0);
    await load(path);
    await load(largeFile('same.jsonl'));
    expect(cached()).toHaveLength(1);
    await load(largeFile('one.jsonl', 300_001));
    await load(path, { lossOn: 'all' });
    await load(path, { maxLength: 21 });
    const other = join(root, 'tokenizer');
    mkdirSync(other, { recursive: true });
    writeFileSync(join(other, 'tokenizer.json'), '{}');
    await load(path, {}, { ...tokenizer, folder: other });
    expect(cached()).toHaveLength(5);
    writeFileSync(join(other, 'special_tokens_map.json'), '{}');
    await load(path, {}, { ...tokenizer, folder: other });
    expect(cached()).toHaveLength(6);
    const { plain } = tokenizer.tokenizer.chatTemplates;
    for (const templates of [{ plain: 'another' }, { plain, toolUse: 'for calls' }])
      await load(path, {}, { ...tokenizer, tokenizer: tokenizer.tokenizer.withTemplates(templates) });
    expect(cached()).toHaveLength(8);
  });

  it('keeps small sets in memory and leaves no file', async () => {
    const { examples } = await loadExamples(rows, causalLm.reading, tokenizer, options);
    expect(examples).toBeInstanceOf(Array);
    expect(() => cached()).toThrow('ENOENT');
  });

  it('names file and line of a bad row far behind', async () => {
    const path = largeFile('bad.jsonl');
    writeFileSync(path, '{"prompt":1}', { flag: 'a' });
    await expect(loadExamples(path, causalLm.reading, tokenizer, options)).rejects.toThrow(
      /bad\.jsonl line 31: key "prompt"/,
    );
    expect(cached()).toEqual([]);
  });
});

describe('progress', () => {
  it('tells rows and bytes of a file, for each time that it is read', async () => {
    const path = largeFile('told.jsonl');
    const told: WorkProgress[] = [];
    const sources = { data: path, evalSplit: 6, seed: 4 };
    const work = { onProgress: (progress: WorkProgress) => told.push(progress) };
    const { train, evaluation } = await loadTrainingExamples(
      sources,
      causalLm.reading,
      tokenizer,
      options,
      work,
    );
    await train.close();
    await evaluation!.close();
    const kinds = [...new Set(told.map(({ what }) => what))];
    expect(kinds).toEqual([
      'counting the rows of told.jsonl',
      'reading told.jsonl',
      'reading the held-out rows of told.jsonl',
    ]);
    for (const kind of kinds) {
      const of = told.filter(({ what }) => what === kind);
      const { done, total, unit, rows: read } = of.at(-1)!;
      expect({ total, unit, read }).toEqual({ total: statSync(path).size, unit: 'bytes', read: 30 });
      expect(done / total).toBeGreaterThan(0.9);
      expect(of.every((one, i) => i === 0 || one.done >= of[i - 1].done)).toBe(true);
    }
  });

  it.each(['csv', 'jsonl'])('of a %s file moves as its rows do', async (kind) => {
    const path = join(root, `moving.${kind}`);
    const text = 'x'.repeat(20_000);
    const lines = rows.map(() => (kind === 'csv' ? text : JSON.stringify({ text })));
    writeFileSync(path, [...(kind === 'csv' ? ['text'] : []), ...lines].join('\n'));
    const dones: number[] = [];
    const work = { onProgress: ({ done }: WorkProgress) => void dones.push(done) };
    await loadExamples(path, causalLm.reading, tokenizer, options, work);
    expect(new Set(dones).size).toBeGreaterThan(1);
  });

  it('of rows in memory counts them', async () => {
    const told: WorkProgress[] = [];
    await loadExamples(rows, causalLm.reading, tokenizer, options, {
      onProgress: (progress) => told.push(progress),
    });
    expect(told).toHaveLength(30);
    expect(told[29]).toEqual({ what: 'reading the data', done: 30, total: Infinity, unit: 'rows' });
  });
});

describe('a signal', () => {
  it.each([
    ['a file', () => largeFile('stopped.jsonl')],
    ['rows in memory', () => rows],
  ])('ends the reading of %s and leaves nothing', async (_, source) => {
    const stop = new AbortController();
    let seen = 0;
    const onProgress = () => {
      if (++seen === 3) stop.abort('enough');
    };
    const load = loadExamples(source(), causalLm.reading, tokenizer, options, {
      onProgress,
      signal: stop.signal,
    });
    await expect(load).rejects.toBe('enough');
    expect(seen).toBe(3);
    expect(existsSync(cache) ? cached() : []).toEqual([]);
  });
});
