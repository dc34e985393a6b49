import * as z from 'zod';
import { mergeIntoFolder } from '../api/output.js';
import { quantizeOption } from '../api/quantize.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { shellWord } from './flags.js';
import { commandLine } from './invocation.js';
import {
  adaptersOption,
  dtypeOption,
  jsonOption,
  modelOption,
  modelOrBase,
  outputOption,
  overwriteOption,
} from './options.js';

const shape = {
  model: modelOption,
  adapter: adaptersOption,
  quantize: quantizeOption,
  output: outputOption,
  dtype: dtypeOption,
  overwrite: overwriteOption,
  json: jsonOption,
};

export const merge: CommandSpec = {
  name: 'merge',
  summary: 'write a whole model with an adapter, or several, merged into its weights',
  groups: { Options: shape },
  examples: [
    'lowrank merge --model ./SmolLM2-135M-Instruct --adapter my-adapter --output merged --dtype bfloat16',
  ],
  async run(given, terminal) {
    const { adapter, output, quantize, dtype, overwrite, ...options } = parseOptions(z.object(shape), given);
    const model = await modelOrBase(options.model, adapter, terminal);
    if (quantize !== undefined)
      terminal.note(`merging into the dequantized ${quantize} weights, not into the original ones`);
    await mergeIntoFolder(model, adapter, output, { quantize, dtype, overwrite, ...locating(terminal) });
    terminal.emit({ kind: 'saved', what: 'model', folder: output });
    terminal.say(`merged into ${output}`);
    terminal.say(`to use it: ${commandLine(`generate --model ${shellWord(output)} --prompt ...`)}`);
    return exitCodes.ok;
  },
};
