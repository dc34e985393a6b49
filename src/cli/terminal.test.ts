import { afterEach, describe, expect, it, vi } from 'vitest';
import { Terminal } from './terminal.js';

const { isTTY, columns } = process.stdout;
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  Object.assign(process.stdout, { isTTY, columns });
});

/** A terminal of so many columns, and what is written to it. */
function terminalOf(width: number | undefined, env: Record<string, string> = {}) {
  for (const [name, value] of Object.entries({ CI: '', TERM: 'xterm', ...env })) vi.stubEnv(name, value);
  Object.assign(process.stdout, { isTTY: width !== undefined, columns: width });
  let written = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    written += text;
    return true;
  });
  return { terminal: new Terminal(false), written: () => written };
}

describe('the live line', () => {
  it('is rewritten in place, cut to the width, and gone before other lines', () => {
    const { terminal, written } = terminalOf(8);
    terminal.status('0123456789');
    terminal.say('done');
    expect(written()).toBe('\r0123456\x1b[K\r\x1b[Kdone\n');
    expect(terminal.columns).toBe(8);
  });

  it('may be several, all of them gone before other lines', () => {
    const { terminal, written } = terminalOf(8);
    terminal.panel(['one', 'two', 'a third line']);
    terminal.say('done');
    expect(written()).toBe('\rone\x1b[K\ntwo\x1b[K\na third\x1b[K\r\x1b[2A\x1b[Jdone\n');
  });

  it('has a width where the terminal does not tell its own', () => {
    expect(terminalOf(0).terminal.columns).toBe(80);
  });

  it('has the width that COLUMNS asks for in a pipe, and none where that is no width', () => {
    expect(terminalOf(undefined, { COLUMNS: '60' }).terminal.columns).toBe(60);
    for (const COLUMNS of ['', '0', 'wide']) {
      expect(terminalOf(undefined, { COLUMNS }).terminal.columns).toBeUndefined();
    }
  });

  it.each([
    ['a pipe', undefined, {}],
    ['CI', 80, { CI: 'true' }],
    ['a terminal that cannot go back', 80, { TERM: 'dumb' }],
  ])('is left out in %s', (_, width, env) => {
    const { terminal, written } = terminalOf(width, env);
    terminal.status('0123456789');
    expect(terminal.isLive).toBe(false);
    expect(written()).toBe('');
  });
});
