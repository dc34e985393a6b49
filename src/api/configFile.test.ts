import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { parseConfig } from './configFile.js';
import { foreignKeys, optionOfForeign, reasonAgainstForeign } from './foreignKeys.js';
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
    [
      'r: many\nlerning_rate: 1\ncolour: red\nloraRank: 4',
      'run.yaml has 3 unknown keys: "lerning_rate" (line 2), did you mean "learning_rate"?; "colour" (line 3); ' +
        '"loraRank" (line 4), here "r"',
    ],
    ['num_train_epochs: 3', 'run.yaml line 1: unknown key "num_train_epochs", here "epochs"'],
    ['cutoff-len: 3', 'run.yaml line 1: unknown key "cutoff-len", here "max-length"'],
    ['iters: 3', 'run.yaml line 1: unknown key "iters", here "max_steps"'],
    ['load_in_4bit: true', 'run.yaml line 1: unknown key "load_in_4bit", here "quantize: nf4"'],
    ['bf16: true', 'run.yaml line 1: unknown key "bf16": everything is computed in float32'],
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

  it("tell all keys of another tool's file at once, in a message that nothing is cut out of", () => {
    const llamaFactory = `model_name_or_path: meta-llama/Llama-3.2-1B
trust_remote_code: true
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
dataloader_num_workers: 4
output_dir: saves/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
`;
    expect(() => parse(llamaFactory)).toThrow(
      'run.yaml has 23 unknown keys: "model_name_or_path" (line 1), here "model"; "finetuning_type" (line 5), here "method"; ' +
        '"lora_rank" (line 6), here "r"; "lora_target" (line 7), here "target_modules"; "dataset" (line 8), here "data"; ' +
        '"cutoff_len" (line 10), here "max_length"; "output_dir" (line 14), here "output"; ' +
        '"report_to" (line 19), here "tensorboard: true"; "per_device_train_batch_size" (line 20), here "batch_size"; ' +
        '"num_train_epochs" (line 23), here "epochs"; "lr_scheduler_type" (line 24), here "schedule"; ' +
        '"trust_remote_code" (line 2), "stage" (line 3), "do_train" (line 4), "max_samples" (line 11), ' +
        '"preprocessing_num_workers" (line 12), "dataloader_num_workers" (line 13), "logging_steps" (line 15), ' +
        '"plot_loss" (line 17), "ddp_timeout" (line 27): nothing here corresponds; ' +
        '"template" (line 9): the model brings its chat template; ' +
        '"overwrite_output_dir" (line 18): that is the flag --overwrite; "bf16" (line 26): everything is computed in float32',
    );
  });

  it.each(foreignKeys)('hint at an option that takes it, or at none, for "%s"', (key) => {
    expect(jobSchema.shape).not.toHaveProperty(key);
    const option = optionOfForeign(key);
    if (!option) return expect(reasonAgainstForeign(key)).toBeTypeOf('string');
    expect(jobSchema.shape).toHaveProperty(option.name);
    if (option.value !== undefined) {
      const value = option.value === 'true' ? true : option.value;
      expect(jobSchema.safeParse({ [option.name]: value }).success).toBe(true);
    }
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
