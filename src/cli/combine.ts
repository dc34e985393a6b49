import * as z from 'zod';
import { combineIntoFolder } from '../api/combine.js';
import { openingOfRun } from '../api/opening.js';
import { combineSchema } from '../methods/combine.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { generateHint } from './hints.js';
import { jsonOption, outputOption, overwriteOption } from './options.js';
import { counted } from './text.js';

const text = z.string().min(1);
const shape = {
  adapters: z.array(text),
  output: outputOption,
  weights: z
    .array(z.number('expected numbers, as 0.7,0.3'))
    .optional()
    .describe('one an adapter, as 0.7,0.3; they may be negative (default: 1 each)'),
  base: text
    .meta({ valueName: 'model' })
    .optional()
    .describe('model of GGUF adapters, which do not name it: folder, .gguf file or hub id'),
  overwrite: overwriteOption,
  json: jsonOption,
};
const positional = ['adapters'];

export const combine: CommandSpec = {
  name: 'combine',
  summary: 'make one LoRA adapter out of several, each with its weight',
  description:
    "As PEFT's add_weighted_adapter. Adapters are PEFT or mlx-lm folders, hub ids, or with --base GGUF files.\n" +
    'linear, ties, dare_* and magnitude_prune work on A and B apart, which is rough; those with svd work on the products.',
  positional,
  writes: true,
  groups: { Options: shape, Combination: combineSchema.shape },
  examples: [
    'lowrank combine rivers mountains --weights 0.7,0.3 --output both',
    'lowrank combine rivers mountains --weights 0.7,0.3 --combination ties --density 0.5 --output both',
    'lowrank combine wide --combination svd --svd-rank 4 --output narrow',
  ],
  async run(given, terminal) {
    const schema = z.object({ ...shape, ...combineSchema.shape });
    const { adapters, output, weights, json, ...options } = parseOptions(schema, given, positional);
    const combined = await combineIntoFolder(adapters, output, {
      ...options,
      weights,
      ...locating(terminal),
    });
    terminal.emit({ kind: 'saved', what: 'adapter', folder: output, ...combined });
    terminal.say(
      `combined ${counted(adapters.length, 'adapter')} into ${output}: r ${combined.r}, ${counted(combined.modules, 'module')}`,
    );
    terminal.say(`to use it: ${generateHint({ adapter: output }, await openingOfRun(adapters[0]))}`);
    return exitCodes.ok;
  },
};
