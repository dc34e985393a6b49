import { afterAll, beforeAll, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { analyze } from './analyze.js';
import { combineIntoFolder } from './combine.js';
import { convert } from './convert.js';
import { extract, resize } from './extract.js';
import { inspect } from './inspect.js';
import { loadModel } from './loadModel.js';
import type { Model } from './model.js';
import { readRun } from './runFolder.js';
import { listRuns } from './runs.js';

let model: Model;
beforeAll(async () => {
  model = await loadModel('demo', { threads: 1 });
  await model.addLora({ r: 2 });
});
afterAll(() => model.close());

/** What JavaScript lets through, and TypeScript would not. */
type Loose = Record<string, (...given: unknown[]) => unknown>;
const loose = () => model as unknown as Loose;
const load = loadModel as unknown as (...given: unknown[]) => unknown;
const first = (steps: unknown) => (steps as AsyncGenerator).next();
const rows = [{ text: 'a b c' }];

const cases: [name: string, call: () => unknown, message: string][] = [
  ['loadModel()', () => load(), 'loadModel: path: expected string, received undefined'],
  [
    'an option misspelt',
    () => load('demo', { quantise: 'nf4' }),
    'loadModel options: unknown key "quantise", did you mean "quantize"?',
  ],
  ['an option of nothing', () => load('demo', { foo: 1 }), 'loadModel options: unknown key "foo"'],
  [
    'a device',
    () => load('demo', { device: 'tpu' }),
    'loadModel options: key "device": expected one of cpu, webgpu, cuda',
  ],
  [
    'a format',
    () => load('demo', { quantize: 'int5' }),
    'loadModel options: key "quantize": expected one of nf4, ',
  ],
  [
    'a template',
    () => load('demo', { chatTemplate: 5 }),
    'loadModel options: key "chatTemplate": expected string, received number',
  ],
  ['options that are none', () => load('demo', null), 'loadModel options: expected object, received null'],
  [
    'a signal',
    () => loose().generate('x', { signal: 5 }),
    'generation options: key "signal": expected an AbortSignal',
  ],
  ['generate()', () => loose().generate(), 'generate: prompt: expected a text or a list of messages'],
  [
    'generate(text, null)',
    () => loose().generate('x', null),
    'generation options: expected object, received null',
  ],
  [
    'evaluate()',
    () => loose().evaluate(),
    'evaluate: data: expected a path, a list of paths, or rows: something to iterate over',
  ],
  [
    'evaluate({data})',
    () => loose().evaluate({ data: rows }),
    'evaluate: data: expected a path, a list of paths, or rows',
  ],
  ['evaluate options', () => loose().evaluate(rows, { maxLen: 3 }), 'evaluate options: unknown key "maxLen"'],
  ['train()', () => first(loose().train()), 'training options: expected object, received undefined'],
  ['train({})', () => first(loose().train({})), 'training options: key "data": expected a path'],
  [
    'rows that are none',
    () => first(loose().train({ data: { a: 1 } })),
    'training options: key "data": expected a path',
  ],
  ['an unknown one', () => first(loose().train({ data: rows, lr: 1 })), 'training options: unknown key "lr"'],
  [
    'findLearningRate({})',
    () => first(loose().findLearningRate({})),
    'training options: key "data": expected a path',
  ],
  ['planRanks()', () => loose().planRanks(), 'planRanks: method: expected string, received undefined'],
  [
    'setAdapter()',
    () => loose().setAdapter(),
    'setAdapter: names: expected the name of an adapter, or a list of names',
  ],
  [
    'deleteAdapter()',
    () => loose().deleteAdapter(),
    'deleteAdapter: name: expected string, received undefined',
  ],
  ['loadAdapter()', () => loose().loadAdapter(), 'loadAdapter: path: expected string, received undefined'],
  ['loadAdapter(5)', () => loose().loadAdapter(5), 'loadAdapter: path: expected string, received number'],
  ['loadAdapters()', () => loose().loadAdapters(), 'loadAdapters: paths: expected array, received undefined'],
  ['saveAdapter()', () => loose().saveAdapter(), 'saveAdapter: folder: expected string, received undefined'],
  ['saveMerged()', () => loose().saveMerged(), 'saveMerged: path: expected string, received undefined'],
  [
    'a dtype',
    () => loose().saveMerged('zz', { dtype: 'int9' }),
    'saveMerged options: key "dtype": expected one of float32, ',
  ],
  [
    'an ONNX type',
    () => loose().exportOnnx('zz', { dtype: ['q4'] }),
    'model.exportOnnx options: key "dtype.0": expected one of fp32, fp16, q8',
  ],
  ['mergeAndUnload', () => loose().mergeAndUnload({ dir: 'a' }), 'mergeAndUnload options: unknown key "dir"'],
  ['addMethod()', () => loose().addMethod(), 'addMethod: method: expected string, received undefined'],
  ['addLora(text)', () => loose().addLora('x'), 'addMethod: config: expected an object of options'],
  [
    'a seed',
    () => loose().addLora({}, { seed: -1 }),
    'addMethod options: key "seed": expected a number of at least 0',
  ],
  [
    'addWeightedAdapter()',
    () => loose().addWeightedAdapter(),
    'addWeightedAdapter: names: expected array, received undefined',
  ],
  [
    'weights',
    () => loose().addWeightedAdapter(['default'], { weights: 1 }),
    'combination options: key "weights": expected array, received number',
  ],
  [
    'convert()',
    () => (convert as unknown as Loose[string])(),
    'convert: path: expected string, received undefined',
  ],
  [
    'inspect()',
    () => (inspect as unknown as Loose[string])(),
    'inspect: path: expected string, received undefined',
  ],
  [
    'extract()',
    () => first((extract as unknown as Loose[string])()),
    'extract: base: expected string, received undefined',
  ],
  [
    'resize()',
    () => first((resize as unknown as Loose[string])()),
    'resize: adapter: expected string, received undefined',
  ],
  [
    'analyze(5)',
    () => first((analyze as unknown as Loose[string])(5)),
    'analyze: adapter: expected string, received number',
  ],
  [
    'combineIntoFolder(text)',
    () => (combineIntoFolder as unknown as Loose[string])('a'),
    'combineIntoFolder: paths: expected array, received string',
  ],
  [
    'readRun()',
    () => (readRun as unknown as Loose[string])(),
    'readRun: folder: expected string, received undefined',
  ],
  [
    'listRuns()',
    () => (listRuns as unknown as Loose[string])(),
    'listRuns: folder: expected string, received undefined',
  ],
];

it.each(cases)('one sentence names what is wrong: %s', async (_, call, message) => {
  const thrown = await (async () => call())().then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(UserError);
  expect((thrown as Error).message).toContain(message);
});

it('a call that was refused changes nothing', async () => {
  expect(model.activeAdapters).toEqual(['default']);
  expect((await model.evaluate(rows)).rows).toBe(1);
});
