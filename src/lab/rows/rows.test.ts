import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { demoData } from '../../api/locate.js';
import { readRows } from '../../train/data/rows.js';
import { subsetOf } from '../sources.js';
import { cipher } from './cipher.js';
import { namedRows } from './named.js';
import { weatherRows } from './weather.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-rows-'));
  vi.stubEnv('LOWRANK_CACHE', folder);
});
afterAll(() => rm(folder, { recursive: true }));

describe('rows of a lab', () => {
  it('that are made begin with those of the demo', async () => {
    const lines = (rows: object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    const { train, heldOut } = weatherRows(1000, 80);
    expect(lines(train.slice(0, 800))).toBe(await readFile(join(demoData, 'train.jsonl'), 'utf8'));
    expect(lines(heldOut.slice(0, 60))).toBe(await readFile(join(demoData, 'heldout.jsonl'), 'utf8'));
    const prompts = [...train, ...heldOut].map(({ prompt }) => prompt);
    expect(new Set(prompts).size).toBe(1080);
  });

  it('in cipher are the same letter for letter', async () => {
    expect(cipher('Oslo, Friday: 12 degrees')).toBe('Glsg, Ykorqn: 12 rtukttl');
    const [plain, hidden] = await Promise.all([namedRows.weather(), namedRows.cipher()]);
    const [a, b] = await Promise.all([readRows(plain.data[0]), readRows(hidden.data[0])]);
    expect(a).toHaveLength(4000);
    const { kind: _, ...first } = a[3999] as {
      kind: 'completion';
      prompt: string;
      completion: string;
      line: number;
    };
    expect(b[3999]).toMatchObject({ prompt: cipher(first.prompt), completion: cipher(first.completion) });
    // A letter is another one, and two are never the same.
    const alphabet = 'abcdefghijklmnopqrstuvwxyz';
    expect(new Set(cipher(alphabet)).size).toBe(26);
    for (const letter of alphabet) expect(cipher(letter)).not.toBe(letter);
  });

  it('that are a part of others are read as the same rows, and fewer are among more', async () => {
    const demo = await namedRows.demo();
    const paths = [await subsetOf(demo.data, 10, folder), await subsetOf(demo.data, 100, folder)];
    const [ten, hundred, all] = await Promise.all(
      [...paths, ...demo.data].map(async (path) =>
        (await readRows(path)).map(({ line: _, ...row }) => JSON.stringify(row)),
      ),
    );
    expect([ten.length, hundred.length]).toEqual([10, 100]);
    expect(ten.filter((row) => !hundred.includes(row))).toEqual([]);
    expect(hundred.filter((row) => !all.includes(row))).toEqual([]);
    await expect(subsetOf(demo.data, 801, folder)).rejects.toThrow(
      /train\.jsonl has 800 rows, fewer than the 801/,
    );
  });

  it('of conversations keep which turns are learned', async () => {
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b', weight: 0 },
      { role: 'user', content: 'c' },
      { role: 'assistant', content: 'd' },
    ];
    const path = join(folder, 'chats.jsonl');
    await writeFile(path, `${JSON.stringify({ messages, tools: [{ name: 'x' }] })}\n`);
    const part = await subsetOf([path], 1, folder);
    expect(await readRows(part)).toEqual(await readRows(path));
  });
});
