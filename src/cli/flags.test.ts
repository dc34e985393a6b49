import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { jobSchema, resolveJob } from '../api/job.js';
import { flagsOf, inFlags, readFlag, shellWord, toFlags } from './flags.js';

const shape = {
  r: z.int().positive().default(8).describe('rank'),
  learningRate: z.number().optional().describe('rate'),
  schedule: z.enum(['linear', 'cosine']).default('linear'),
  method: z.enum(['lora', 'loraplus', 'lorafa', 'adalora']).default('lora'),
  useRslora: z.boolean().default(false).describe('other scale'),
  groupByLength: z.boolean().default(true).describe('sort'),
  initLoraWeights: z.union([z.boolean(), z.literal('gaussian')]).default(true),
  targetModules: z.union([z.string(), z.array(z.string().regex(/^[\w.]+$/))]).default(['q_proj', 'v_proj']),
  rankPattern: z.record(z.string(), z.int()).default({}),
  stop: z.array(z.string()).default([]),
  numbers: z.union([z.int(), z.array(z.int())]).optional(),
  weights: z.array(z.number()).optional(),
};

function command(): Command {
  const made = new Command('x')
    .exitOverride()
    .configureOutput({ outputError: () => {}, getOutHelpWidth: () => 200 });
  for (const [name, schema] of Object.entries(shape)) {
    for (const flag of flagsOf(name, schema, 'Group:')) made.addOption(flag);
  }
  return made;
}
const parse = (...argv: string[]) => command().parse(argv, { from: 'user' }).opts();

describe('flags out of schemas', () => {
  it('are undefined unless given', () => expect(parse()).toEqual({}));

  it('are read by their schema', () => {
    expect(
      parse(
        ...[
          '--r',
          '4',
          '--learning-rate=1e-4',
          '--schedule',
          'cosine',
          '--use-rslora',
          '--no-group-by-length',
        ],
        ...[
          '--init-lora-weights',
          'gaussian',
          '--target-modules',
          'q_proj,k_proj',
          '--rank-pattern',
          '{"q":2}',
        ],
        ...['--stop', 'a,b', '--stop', '--'],
      ),
    ).toEqual({
      r: 4,
      learningRate: 1e-4,
      schedule: 'cosine',
      useRslora: true,
      groupByLength: false,
      initLoraWeights: 'gaussian',
      targetModules: ['q_proj', 'k_proj'],
      rankPattern: { q: 2 },
      stop: ['a,b', '--'],
    });
    expect(parse('--init-lora-weights', 'false')).toEqual({ initLoraWeights: false });
  });

  it.each([
    ['targetModules', 'q_proj', 'v_proj'],
    ['excludeModules', 'q_proj', 'v_proj'],
    ['layersPattern', 'h', 'blocks'],
    ['modulesToSave', 'norm', 'lm_head'],
    ['layersToTransform', 0, 5],
    ['trainableTokenIndices', 5, 17],
  ])('--%s of train is one list, with commas or repeated', (name, ...items) => {
    const flag = () => flagsOf(name, jobSchema.shape[name] as z.ZodType, '')[0];
    const given = (...argv: string[]) => {
      const made = new Command('x').exitOverride().addOption(flag());
      return made.parse(argv, { from: 'user' }).opts();
    };
    const { long } = flag();
    const one = given(long!, items.join(','));
    expect(one).toEqual({ [name]: items });
    expect(given(...items.flatMap((item) => [long!, String(item)]))).toEqual(one);
    const layers = name === 'layersPattern' ? { layersToTransform: [0] } : {};
    const job = resolveJob({ model: 'm', data: 'd', output: 'o', ...layers, ...one });
    expect(job.methodOptions).toMatchObject({ [name]: items });
  });

  it.each(['abc', '', ' 4', '0x4', 'NaN', 'Infinity', '1e999', '4,5', '-1', '0', '4.5'])(
    '--r %j is refused',
    (text) => {
      expect(() => readFlag(shape.r, text)).toThrow();
    },
  );

  it.each(['4', '+4', '4.0', '4e0'])('--r %j is 4', (text) => expect(readFlag(z.int(), text)).toBe(4));

  it('are lists by commas and by repeating, but for texts, which may have commas', () => {
    expect(parse('--target-modules', 'a,b', '--target-modules', 'c')).toEqual({
      targetModules: ['a', 'b', 'c'],
    });
    expect(parse('--target-modules', '.*[ab]{1,2}')).toEqual({ targetModules: '.*[ab]{1,2}' });
    expect(parse('--numbers', '0, 1', '--numbers', '5')).toEqual({ numbers: [0, 1, 5] });
    expect(parse('--weights', '-0.5,1', '--weights', '2')).toEqual({ weights: [-0.5, 1, 2] });
    expect(parse('--stop', 'a,b', '--stop', 'c')).toEqual({ stop: ['a,b', 'c'] });
  });

  it.each([
    [['--r', '4', '--r', '8'], '--r was given before as 4'],
    [
      ['--rank-pattern', '{"a":1}', '--rank-pattern', '{"b":2}'],
      '--rank-pattern was given before as {"a":1}',
    ],
    [['--target-modules', 'a', '--target-modules', '.*b'], '--target-modules was given before as a'],
  ])('%j keeps neither one in silence', (args, message) => expect(() => parse(...args)).toThrow(message));

  it('are text or JSON where either will do', () => {
    const tokens = z.union([
      z.array(z.int()),
      z.string().regex(/^[\d,]+$/),
      z.record(z.string(), z.array(z.int())),
    ]);
    expect(readFlag(tokens, '5')).toEqual([5]);
    expect(readFlag(tokens, '5,17')).toEqual([5, 17]);
    expect(readFlag(tokens, '{"lm_head":[5]}')).toEqual({ lm_head: [5] });
    for (const text of ['a', '5;6', '{"lm_head":']) expect(() => readFlag(tokens, text)).toThrow();
  });

  it('show their defaults, and of a switch the side that changes something', () => {
    const help = command().helpInformation();
    expect(help).toMatch(/--r <n> +rank \(default: 8\)/);
    expect(help).toMatch(/--target-modules <text,\.\.\.> +\(default: q_proj,v_proj\)/);
    expect(help).toContain('--schedule <linear|cosine>');
    expect(help).toMatch(/--method <name> +; one of lora, loraplus, lorafa, adalora \(default: lora\)/);
    expect(help).toContain('--init-lora-weights <value>');
    expect(help).toContain('--numbers <n,...>');
    expect(help).toMatch(/--stop <text> +\(may be repeated\)/);
    expect(help).toMatch(/--use-rslora +other scale/);
    expect(help).toMatch(/--no-group-by-length +do not sort/);
    expect(help).not.toContain('--no-use-rslora');
    expect(help).not.toMatch(/^ *--group-by-length/m);
  });

  it('are written as they would be typed', () => {
    const given = {
      r: 4,
      useRslora: true,
      groupByLength: false,
      initLoraWeights: true,
      targetModules: ['a', 'b'],
      stop: ['a, b', 'c'],
    };
    expect(toFlags(shape, { ...given, rankPattern: { q: 2 }, learningRate: undefined })).toEqual([
      ...['--r', '4', '--use-rslora', '--no-group-by-length', '--init-lora-weights', 'true'],
      ...['--target-modules', 'a,b', '--stop', `'a, b'`, '--stop', 'c', '--rank-pattern', `'{"q":2}'`],
    ]);
  });

  it.each([
    ['a/b-c.gguf', 'a/b-c.gguf'],
    ['', "''"],
    ["it's", `'it'\\''s'`],
    ['$HOME', `'$HOME'`],
  ])('%j is quoted for a shell', (text, word) => expect(shellWord(text)).toBe(word));
});

describe('errors in the words of the command line', () => {
  const options = new Set(['evalData', 'evalSplit', 'overwrite', 'density', 'r']);

  it.each([
    [
      'held-out rows come either from evalData or from evalSplit, not both',
      'held-out rows come either from --eval-data or from --eval-split, not both',
    ],
    ['a exists already; replace it by the option "overwrite"', 'a exists already; replace it by --overwrite'],
    ['combination ties needs the option "density"', 'combination ties needs --density'],
    ['c.yaml: key "evalSplit": expected number', 'c.yaml: key "evalSplit": expected number'],
    ['cannot read evalData.jsonl-evalSplit', 'cannot read evalData.jsonl-evalSplit'],
    ['the option "other" of numHeads', 'the option "other" of numHeads'],
  ])('%s', (message, words) => expect(inFlags(message, options)).toBe(words));

  it('do not say that what was typed is text', () => {
    expect(() => readFlag(z.number(), 'abc')).toThrow(/^expected number$/);
  });
});
