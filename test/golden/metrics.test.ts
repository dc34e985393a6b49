import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Bleu, tokens13a } from '../../src/train/metrics/bleu.js';
import {
  accuracy,
  binaryF1,
  type ClassScores,
  confusionMatrix,
  macroF1,
  matthews,
  scoresByClass,
} from '../../src/train/metrics/classification.js';
import { pearson, spearman } from '../../src/train/metrics/correlation.js';
import { areEntityLabels, entityScores } from '../../src/train/metrics/entities.js';
import { isExact, textScores } from '../../src/train/metrics/text.js';
import { golden } from './reference.js';

// What scikit-learn, scipy, seqeval, sacrebleu and rouge-score make of the same rows (scripts/parity/make_metric_fixtures.py).

function casesOf<Row, Expected>(file: string) {
  const text = readFileSync(golden(`fixtures-metrics/${file}.json`), 'utf8');
  const { cases } = JSON.parse(text) as {
    cases: { name: string; truth: Row[]; predicted: Row[]; classes: number; expected: Expected }[];
  };
  expect(cases.length).toBeGreaterThan(10);
  return cases;
}

function expectScores(ours: ClassScores, reference: ClassScores) {
  expect(ours.precision).toBeCloseTo(reference.precision, 12);
  expect(ours.recall).toBeCloseTo(reference.recall, 12);
  expect(ours.f1).toBeCloseTo(reference.f1, 12);
  expect(ours.support).toBe(reference.support);
}

describe('classes, as scikit-learn has them', () => {
  interface Expected {
    matrix: number[][];
    accuracy: number;
    macroF1: number;
    matthews: number;
    binaryF1?: number[];
    byClass: ClassScores[];
  }
  it.each(casesOf<number, Expected>('classification'))('$name', ({ truth, predicted, classes, expected }) => {
    const matrix = confusionMatrix(truth, predicted, classes);
    expect(matrix).toEqual(expected.matrix);
    expect(accuracy(matrix)).toBeCloseTo(expected.accuracy, 12);
    expect(macroF1(matrix)).toBeCloseTo(expected.macroF1, 12);
    expect(matthews(matrix)).toBeCloseTo(expected.matthews, 12);
    const byClass = scoresByClass(matrix);
    expect(byClass).toHaveLength(classes);
    byClass.forEach((ours, c) => expectScores(ours, expected.byClass[c]));
    expected.binaryF1?.forEach((f1, positive) => expect(binaryF1(matrix, positive)).toBeCloseTo(f1, 12));
  });
});

describe('correlations, as scipy has them', () => {
  interface Expected {
    pearson: number | null;
    spearman: number | null;
  }
  it.each(casesOf<number, Expected>('correlation'))('$name', ({ truth, predicted, expected }) => {
    for (const [ours, reference] of [
      [pearson(truth, predicted), expected.pearson],
      [spearman(truth, predicted), expected.spearman],
    ] as const) {
      if (reference === null) expect(ours).toBeUndefined();
      else expect(ours).toBeCloseTo(reference, 9);
    }
  });
});

describe('entities, as seqeval has them', () => {
  interface Expected extends ClassScores {
    accuracy: number;
    byType: Record<string, ClassScores>;
  }
  it.each(casesOf<string[], Expected>('entities'))('$name', ({ truth, predicted, expected }) => {
    const { byType, ...overall } = entityScores(truth, predicted);
    const support = Object.values(expected.byType).reduce((sum, type) => sum + type.support, 0);
    expectScores(overall, { ...expected, support });
    expect(Object.keys(byType).sort()).toEqual(Object.keys(expected.byType).sort());
    for (const [type, scores] of Object.entries(byType)) expectScores(scores, expected.byType[type]);
    expect(areEntityLabels([...truth.flat(), ...predicted.flat()])).toBe(true);
    // The share of tokens that seqeval calls accuracy is that of any classes.
    const labels = [...new Set([...truth.flat(), ...predicted.flat()])];
    const numbers = (rows: string[][]) => rows.flat().map((label) => labels.indexOf(label));
    const tokens = confusionMatrix(numbers(truth), numbers(predicted), labels.length);
    expect(accuracy(tokens)).toBeCloseTo(expected.accuracy, 12);
  });
});

describe('texts, as sacrebleu and rouge-score have them', () => {
  interface Expected {
    bleu: Bleu;
    rougeL: number;
  }
  it.each(casesOf<string, Expected>('texts'))('$name', ({ truth, predicted, expected }) => {
    const { bleu, rougeL, exactMatch } = textScores(predicted, truth);
    const { precisions, score, brevityPenalty, ...counted } = bleu;
    const { precisions: theirs, score: total, brevityPenalty: penalty, ...reference } = expected.bleu;
    expect(counted).toEqual(reference);
    expect(precisions).toHaveLength(4);
    precisions.forEach((precision, order) => expect(precision).toBeCloseTo(theirs[order], 10));
    expect(brevityPenalty).toBeCloseTo(penalty, 12);
    expect(score).toBeCloseTo(total, 10);
    expect(rougeL).toBeCloseTo(expected.rougeL, 12);
    const same = predicted.filter((text, i) => text.trim() === truth[i].trim()).length;
    expect(exactMatch).toBeCloseTo(same / truth.length, 12);
  });

  it('tokens of 13a', () => {
    const { tokens } = JSON.parse(readFileSync(golden('fixtures-metrics/texts.json'), 'utf8')) as {
      tokens: [string, string[]][];
    };
    expect(tokens.length).toBeGreaterThan(80);
    for (const [text, expected] of tokens) expect(tokens13a(text), JSON.stringify(text)).toEqual(expected);
  });

  it('an exact match does not look at blanks at the ends, and at all else', () => {
    expect(isExact(' yes\n', 'yes')).toBe(true);
    expect(isExact('Yes', 'yes')).toBe(false);
    expect(isExact('a  b', 'a b')).toBe(false);
    expect(() => textScores([], [])).toThrow('no texts to score');
    expect(() => textScores(['a'], [])).toThrow('1 predictions, but 0 references');
  });
});

describe('what cannot be scored', () => {
  it('classes that are none, rows that do not match, and no rows', () => {
    expect(() => confusionMatrix([], [], 2)).toThrow('no rows');
    expect(() => confusionMatrix([0, 1], [0], 2)).toThrow('2 true classes, but 1 predicted ones');
    for (const wrong of [2, -1, 0.5, Number.NaN])
      expect(() => confusionMatrix([0, 1], [0, wrong], 2)).toThrow(`row 2: ${wrong} is none of 2 classes`);
    expect(() => pearson([1, 2], [1])).toThrow('2 true numbers, but 1 predicted ones');
    expect(() => spearman([1, 2], [1])).toThrow('2 true numbers, but 1 predicted ones');
    expect(() => entityScores([['O']], [])).toThrow('1 true rows, but 0 predicted ones');
    expect(() => entityScores([['O']], [['O', 'O']])).toThrow('row 1: 1 true labels, but 2 predicted ones');
  });

  it('a correlation with numbers that are not finite is undefined', () => {
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(pearson([1, 2, 3], [1, wrong, 2])).toBeUndefined();
      expect(spearman([1, wrong, 3], [1, 3, 2])).toBeUndefined();
    }
    expect(pearson([], [])).toBeUndefined();
  });

  it('labels of words are no entities', () => {
    expect(areEntityLabels(['O', 'NOUN', 'B-PER'])).toBe(false);
    expect(areEntityLabels(['O', 'U-PER'])).toBe(false);
    expect(areEntityLabels(['O'])).toBe(false);
    expect(areEntityLabels(['O', 'B-PER', 'I-PER'])).toBe(true);
    expect(() => entityScores([['B-PER']], [['NOUN']])).toThrow('"NOUN" is no label of IOB2 or IOBES');
  });
});
