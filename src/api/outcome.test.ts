import { describe, expect, it } from 'vitest';
import type { Metric } from './metric.js';
import { warningsOf } from './outcome.js';

/** Steps with these losses; the gradient's norms are 1 where none are given. */
function stepsOf(losses: readonly number[], gradNorms: readonly number[] = []): Metric[] {
  return losses.map((loss, i) => ({
    kind: 'step',
    step: i + 1,
    steps: losses.length,
    epoch: 0,
    loss,
    learningRate: 1e-3,
    gradNorm: gradNorms[i] ?? 1,
    tokens: 0,
    tokensPerSecond: 1,
    secondsLeft: 0,
  }));
}

function evalAt(step: number, loss: number, best = step > 0): Metric {
  return { kind: 'eval', step, loss, perplexity: Math.exp(loss), tokens: 1, best };
}

const kinds = (metrics: readonly Metric[]) => warningsOf(metrics).map(({ kind }) => kind);
const course = (steps: number, loss: (share: number, i: number) => number) =>
  Array.from({ length: steps }, (_, i) => loss(i / (steps - 1), i));
const falling = course(40, (share) => 4 - 3 * share);
const flat = course(40, (_, i) => 4 + 0.1 * (-1) ** i);

describe('what a finished run is warned of', () => {
  it('is nothing where the loss fell', () => {
    expect(kinds(stepsOf(falling))).toEqual([]);
    expect(kinds([evalAt(0, 4), ...stepsOf(flat), evalAt(40, 3.9)])).toEqual([]);
    expect(kinds([])).toEqual([]);
  });

  it('few steps', () => {
    expect(warningsOf(stepsOf(falling.slice(0, 19)))).toEqual([
      {
        kind: 'fewSteps',
        message:
          'only 19 steps were taken, which teach little; try more rows, more epochs or a smaller batch size',
      },
    ]);
    expect(kinds(stepsOf(falling.slice(0, 20)))).toEqual([]);
    expect(warningsOf(stepsOf([4]))[0].message).toMatch(/^only 1 step was taken, which teaches little; /);
  });

  it('a loss that did not move, by the held-out one where there is one', () => {
    expect(warningsOf(stepsOf(flat))).toEqual([
      {
        kind: 'lossUnmoved',
        message:
          'the training loss did not move: 4.0000 -> 4.0000; try a higher learning rate (--find-lr looks for one) or more epochs',
      },
    ]);
    const [{ message }] = warningsOf([evalAt(0, 4), ...stepsOf(falling), evalAt(40, 3.97)]);
    expect(message).toMatch(/^the held-out loss did not move: 4\.0000 -> 3\.9700; /);
    expect(kinds([evalAt(0, 4), ...stepsOf(falling), evalAt(40, 3.96)])).toEqual([]);
    // Of a few batches the loss says nothing, what is held out does.
    expect(kinds(stepsOf([4, 4, 4]))).toEqual(['fewSteps']);
    expect(kinds(stepsOf([4, 4.9]))).toEqual(['fewSteps']);
    expect(kinds(stepsOf([4, 5.1]))).toEqual(['lossRose', 'fewSteps']);
    expect(kinds([evalAt(0, 4), ...stepsOf([4, 4, 4]), evalAt(3, 4)])).toEqual(['lossUnmoved', 'fewSteps']);
  });

  it('a loss that rose, also where it jumped at once and came back in part', () => {
    const jumped = course(40, (share, i) => (i === 0 ? 5 : 12 - 5 * share));
    expect(warningsOf(stepsOf(jumped))[0]).toEqual({
      kind: 'lossRose',
      message: expect.stringMatching(
        /^the training loss rose: 5\.0000 -> 7\.5\d+; try a lower learning rate$/,
      ),
    });
    expect(kinds([evalAt(0, 4), ...stepsOf(falling), evalAt(40, 4.1)])).toEqual(['lossRose']);
    // The best evaluation is kept, whatever came behind it.
    expect(kinds([evalAt(0, 4), ...stepsOf(falling), evalAt(20, 3), evalAt(40, 4.1, false)])).toEqual([]);
    // Not what differs from batch to batch.
    expect(kinds(stepsOf([...flat.slice(0, -2), 4.5, 3.9]))).toEqual(['lossUnmoved']);
  });

  it('a collapse, and nothing else then', () => {
    const gradNorms = [1, ...course(39, () => 0)];
    expect(
      warningsOf(
        stepsOf(
          course(40, () => 8.3183),
          gradNorms,
        ),
      ),
    ).toEqual([
      {
        kind: 'collapsed',
        message:
          'the run collapsed: the gradient is 0 since step 2, the loss is stuck at 8.3183; try a lower learning rate',
      },
    ]);
    const never = stepsOf(
      course(40, () => 8),
      course(40, () => 0),
    );
    expect(warningsOf(never)[0].message).toMatch(/^nothing was learned: the gradient was 0 in every step, /);
    // One step of a tenth without a gradient is none.
    expect(kinds(stepsOf(falling, [...course(39, () => 1), 0]))).toEqual([]);
  });

  it('nothing where all is learned', () => {
    const learned = course(40, () => 0.001);
    expect(
      kinds(
        stepsOf(
          learned,
          course(40, () => 0),
        ),
      ),
    ).toEqual([]);
    expect(kinds([evalAt(0, 0.001), ...stepsOf(learned), evalAt(40, 0.001)])).toEqual([]);
  });
});
