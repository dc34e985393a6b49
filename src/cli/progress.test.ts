import { describe, expect, it, vi } from 'vitest';
import { liveLine, Progress, type ProgressState } from './progress.js';
import { Terminal } from './terminal.js';

/** The lines that a log gets of a run of so many steps. */
function logged(steps: number, from = 0): string[] {
  const said: string[] = [];
  const terminal = new Terminal(false);
  vi.spyOn(terminal, 'isLive', 'get').mockReturnValue(false);
  vi.spyOn(terminal, 'say').mockImplementation((text = '') => {
    said.push(text);
  });
  const progress = new Progress(terminal);
  for (let step = from + 1; step <= steps; step++) {
    progress.show({
      kind: 'step',
      step,
      steps,
      epoch: 0,
      loss: step === from + 1 ? 4 : 2,
      learningRate: 1,
      gradNorm: 1,
      tokens: step,
      tokensPerSecond: 1000,
      secondsLeft: 75,
    });
  }
  return said;
}
const stepsOf = (lines: string[]) => lines.map((line) => Number(/^step +(\d+)\//.exec(line)![1]));

describe('progress in a log', () => {
  it('has a line each tenth of the steps, the last one included', () => {
    expect(stepsOf(logged(600))).toEqual([60, 120, 180, 240, 300, 360, 420, 480, 540, 600]);
    expect(stepsOf(logged(25))).toEqual([3, 5, 8, 10, 13, 15, 18, 20, 23, 25]);
    expect(stepsOf(logged(3))).toEqual([1, 2, 3]);
  });

  it('tells an average of the loss, pace and time left', () => {
    const lines = logged(2);
    expect(lines[0]).toBe('step 1/2  avg loss 4.000  1,000 tokens/s  1:15 left');
  });

  it('averages over a tenth of the steps, so that the loss of a short run is not that of its beginning', () => {
    const losses = (steps: number) => logged(steps).map((line) => /avg loss ([\d.]+)/.exec(line)![1]);
    expect(losses(10).slice(0, 2)).toEqual(['4.000', '2.000']);
    // The first of them is of step 3 of 30, whose average is over about 3 steps: 4, 2, 2 by weights 1, 2 and 4.
    expect(losses(30)[0]).toBe('2.286');
    // Of very many steps over about 20, not 200.
    expect(Number(losses(2000)[0])).toBeCloseTo(2, 3);
  });
});

describe('the live line', () => {
  const state: ProgressState = {
    step: 120,
    steps: 600,
    loss: 2.3456,
    heldOut: { loss: 2.41, step: 100 },
    tokensPerSecond: 1234.5,
    secondsLeft: 200,
  };
  const long = { ...state, step: 12_000, steps: 60_000, tokensPerSecond: 12_345, secondsLeft: 3800 };

  it('tells step, loss, pace and time left in terminals of 40, 80 and 120 columns', () => {
    expect(liveLine(state, 119)).toMatchInlineSnapshot(
      `"[=====                   ] step 120/600  avg loss 2.346  held-out 2.410 at 100  1,235 tokens/s  3:20 left"`,
    );
    expect(liveLine(state, 79)).toMatchInlineSnapshot(
      `"step 120/600  avg loss 2.346  held-out 2.410 at 100  1,235 tokens/s  3:20 left"`,
    );
    expect(liveLine(state, 39)).toMatchInlineSnapshot(`"120/600  avg 2.346  1,235/s  3:20 left"`);
    expect(liveLine({ ...state, heldOut: undefined }, 79)).toMatchInlineSnapshot(
      `"[====                 ] step 120/600  avg loss 2.346  1,235 tokens/s  3:20 left"`,
    );
    expect(liveLine(long, 119)).toMatchInlineSnapshot(
      `"[=====                   ] step 12000/60000  avg loss 2.346  held-out 2.410 at 100  12,345 tokens/s  1:03:20 left"`,
    );
    expect(liveLine(long, 79)).toMatchInlineSnapshot(
      `"step 12000/60000  avg loss 2.346  12,345 tokens/s  1:03:20 left"`,
    );
    expect(liveLine(long, 39)).toMatchInlineSnapshot(`"12000/60000 2.346 12,345/s 1:03:20"`);
    expect(liveLine(long, 20)).toMatchInlineSnapshot(`"12000/60000  2.35"`);
  });

  it('never is wider than it may be', () => {
    for (let columns = 1; columns <= 200; columns++) {
      for (const one of [state, long]) expect(liveLine(one, columns).length).toBeLessThanOrEqual(columns);
    }
  });
});

describe('a generation on the way', () => {
  const said = (columns: number | undefined) => {
    const lines: string[] = [];
    const terminal = new Terminal(false);
    vi.spyOn(terminal, 'columns', 'get').mockReturnValue(columns);
    vi.spyOn(terminal, 'say').mockImplementation((text = '') => void lines.push(text));
    const prompt = 'Oslo, Friday: 12 degrees, strong wind from the west,\nrain.';
    new Progress(terminal).show({ kind: 'sample', step: 20, prompt, text: ' It is\n\nwet.', tokens: 5 });
    return lines;
  };

  it('shows the end of its prompt where lines are narrow, and its text in one line', () => {
    expect(said(undefined)).toEqual([
      'step 20  Oslo, Friday: 12 degrees, strong wind from the west, / rain.',
      '  It is / wet.',
    ]);
    expect(said(40)).toEqual(['step 20  …ng wind from the west, / rain.', '  It is / wet.']);
    expect(said(40)[0]).toHaveLength(40);
  });
});
