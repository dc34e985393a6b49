import { afterEach, expect, it, vi } from 'vitest';
import { Terminal } from './terminal.js';
import { showsWork, workLines } from './work.js';

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** What is shown of work of so many steps, each of which takes `ms`. */
function shown(isLive: boolean, steps: number, ms: number) {
  vi.useFakeTimers();
  const terminal = new Terminal(false);
  const lines: string[] = [];
  vi.spyOn(terminal, 'isLive', 'get').mockReturnValue(isLive);
  vi.spyOn(terminal, 'say').mockImplementation((text = '') => void lines.push(text));
  vi.spyOn(terminal, 'status').mockImplementation((text) => void lines.push(text));
  const clear = vi.spyOn(terminal, 'clear').mockImplementation(() => {});
  const show = showsWork(terminal);
  for (let done = 0; done <= steps; done++) {
    show({ what: 'PiSSA', done, total: steps, unit: 'matrices' });
    vi.advanceTimersByTime(ms);
  }
  expect(clear).toHaveBeenCalledOnce();
  return lines;
}

it('shows how far work has come on the live line, but not of what is over soon', () => {
  const lines = shown(true, 210, 100);
  expect(lines[0]).toBe('[                        ] PiSSA: 3 of 210 matrices, 21 s left');
  expect(lines.at(-1)).toBe('[========================] PiSSA: 209 of 210 matrices, under 1 s left');
  expect(shown(true, 210, 1)).toEqual([]);
});

it('has few lines in a log', () => {
  expect(shown(false, 210, 100)).toEqual([
    'PiSSA: 50 of 210 matrices, 16 s left',
    'PiSSA: 100 of 210 matrices, 11 s left',
    'PiSSA: 150 of 210 matrices, 6 s left',
    'PiSSA: 200 of 210 matrices, 1 s left',
  ]);
  expect(shown(false, 210, 20)).toEqual([]);
});

it('tells bytes and rows of a file, and as much of it as fits', () => {
  const read = { what: 'reading rows.jsonl', done: 25e6, total: 1e8, unit: 'bytes', rows: 12_345 };
  expect(workLines(read, 60)).toEqual([
    'reading rows.jsonl: 25.0 MB of 100.0 MB, 12,345 rows, 3:00 left',
    'reading rows.jsonl: 25.0 MB of 100.0 MB, 3:00 left',
    '25.0 MB of 100.0 MB, 3:00 left',
    '25.0 MB of 100.0 MB',
  ]);
  const endless = { what: 'reading the data', done: 1, total: Number.POSITIVE_INFINITY, unit: 'rows' };
  expect(workLines(endless, 60)[0]).toBe('reading the data: 1 rows');
});
