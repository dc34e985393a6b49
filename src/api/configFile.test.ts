import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { parseConfig } from './configFile.js';
import { jobSchema } from './job.js';

const parse = (text: string) => parseConfig('run.yaml', text, jobSchema);

describe('config files', () => {
  it('take three spellings, in YAML and JSON', () => {
    const expected = { loraAlpha: 16, targetModules: ['q_proj'], batchSize: 4, learningRate: 2e-4 };
    expect(
      parse('lora_alpha: 16\ntarget-modules: [q_proj]\nbatchSize: 4\nlearning_rate: 2e-4 # as in PEFT\n'),
    ).toEqual(expected);
    expect(
      parse(
        '{\n\t"lora_alpha": 16, "targetModules": ["q_proj"],\n\t"batch_size": 4, "learningRate": 0.0002\n}',
      ),
    ).toEqual(expected);
  });

  it('fill in no defaults, and take a key without a value as not given', () => {
    expect(parse('')).toEqual({});
    expect(parse('# nothing\n')).toEqual({});
    expect(parse('eval_data:\nr: 4')).toEqual({ r: 4 });
  });

  it.each([
    ['r: 8\nlerning_rate: 1', 'run.yaml line 2: unknown key "lerning_rate", did you mean "learning_rate"?'],
    ['lerning-rate: 1', 'run.yaml line 1: unknown key "lerning-rate", did you mean "learning-rate"?'],
    ['lerningRate: 1', 'run.yaml line 1: unknown key "lerningRate", did you mean "learningRate"?'],
    ['colour: red', 'run.yaml line 1: unknown key "colour"'],
    ['\nr: many', 'run.yaml line 2: key "r": expected a whole number above 0, or auto'],
    ['use_rslora: yes', 'run.yaml line 1: key "use_rslora": expected boolean, received string'],
    [
      'rank_pattern:\n  q_proj: x',
      'run.yaml line 1: key "rank_pattern.q_proj": expected number, received string',
    ],
    [
      'lora_alpha: 1\nloraAlpha: 2',
      'run.yaml line 2: key "loraAlpha" is given already as "lora_alpha" in line 1',
    ],
    ['r: 1\nr: 2', 'run.yaml line 2: Map keys must be unique'],
    ['r: [1', /^run\.yaml line 1: /],
    ['r: *x', /^run\.yaml line 1: Unresolved alias/],
    ['- r', 'run.yaml: expected options as "key: value"'],
    ['8: 8', 'run.yaml: a key is not text: 8'],
  ])('%j is refused', (text, message) => {
    expect(() => parse(text)).toThrow(UserError);
    expect(() => parse(text)).toThrow(message);
  });

  it('refuse anything else with a sentence too', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'r: 8\n-[]{}"\'&*!|>%@`#,?\t~a') }), (text) => {
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
