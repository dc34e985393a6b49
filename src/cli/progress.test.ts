import { describe, expect, it, vi } from 'vitest';
import { Progress } from './progress.js';
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

  it('tells a smoothed loss, pace and time left', () => {
    const lines = logged(2);
    expect(lines[0]).toBe('step 1/2  loss 4.000  1,000 tokens/s  1:15 left');
    expect(lines[1]).toMatch(/^step 2\/2 {2}loss 2\.947 {2}/);
  });
});
