import * as z from 'zod';
import { convertIntoFolder } from '../api/output.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { shellWord } from './flags.js';
import { dtypeOption, jsonOption, outputOption, overwriteOption } from './options.js';

const shape = {
  file: z.string().min(1),
  output: outputOption,
  dtype: dtypeOption,
  overwrite: overwriteOption,
  json: jsonOption,
};
const positional = ['file'];

export const convert: CommandSpec = {
  name: 'convert',
  summary: 'turn a GGUF file into a Hugging Face model folder',
  description:
    'Quantized weights become float32 unless --dtype says otherwise; the result is as large as that.',
  positional,
  groups: { Options: shape },
  examples: ['lowrank convert SmolLM2-135M-Instruct.Q4_1.gguf --output SmolLM2-135M-Instruct'],
  async run(given, terminal) {
    const { file, output, dtype, overwrite } = parseOptions(z.object(shape), given, positional);
    await convertIntoFolder(file, output, { dtype, overwrite });
    terminal.emit({ kind: 'saved', what: 'model', folder: output });
    terminal.say(`converted into ${output}`);
    terminal.say(`to use it: lowrank generate --model ${shellWord(output)} --chat "..."`);
    return exitCodes.ok;
  },
};
