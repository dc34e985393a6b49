import * as z from 'zod';
import { formatOfOutput, mergedFormats } from '../api/merged.js';
import { openingOfRun } from '../api/opening.js';
import { mergeInto } from '../api/output.js';
import { quantizeOption } from '../api/quantizedBase.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { shellWord } from './flags.js';
import { generateHint, predictHint } from './hints.js';
import {
  adaptersOption,
  dtypeOption,
  jsonOption,
  modelOption,
  modelOrBase,
  outputOption,
  overwriteOption,
} from './options.js';
import { showsWork } from './work.js';

const shape = {
  model: modelOption,
  adapter: adaptersOption,
  quantize: quantizeOption,
  output: outputOption.describe('folder to write, or .gguf file'),
  format: z
    .enum(mergedFormats)
    .optional()
    .describe('a Hugging Face folder, or a GGUF file for llama.cpp (default: by the name of --output)'),
  dtype: dtypeOption,
  overwrite: overwriteOption,
  json: jsonOption,
};

export const merge: CommandSpec = {
  name: 'merge',
  summary: 'write a whole model with an adapter, or several, merged into its weights',
  writes: true,
  groups: { Options: shape },
  examples: [
    'lowrank merge --model ./SmolLM2-135M-Instruct --adapter my-adapter --output merged --dtype bfloat16',
    'lowrank merge --model ./SmolLM2-135M-Instruct --adapter my-adapter --output merged.gguf --dtype q8_0',
  ],
  async run(given, terminal) {
    const { adapter, output, quantize, dtype, overwrite, ...options } = parseOptions(z.object(shape), given);
    const { format = formatOfOutput(output) } = options;
    const model = await modelOrBase(options.model, adapter, terminal);
    if (quantize !== undefined)
      terminal.note(`merging into the dequantized ${quantize} weights, not into the original ones`);
    const saved = await mergeInto(model, adapter, output, {
      quantize,
      format,
      dtype,
      overwrite,
      onProgress: showsWork(terminal),
      ...locating(terminal),
    });
    const folderHint = async () =>
      saved.task
        ? predictHint({ model: output })
        : generateHint({ model: output }, await openingOfRun(adapter[0] ?? model));
    const [place, use] =
      format === 'gguf' ? ['file', `llama-cli --model ${shellWord(output)}`] : ['folder', await folderHint()];
    terminal.emit({
      kind: 'saved',
      what: 'model',
      [place]: output,
      ...(saved.dtype && { dtype: saved.dtype }),
    });
    terminal.say(`merged into ${output}${saved.dtype ? `, ${saved.dtype}` : ''}`);
    terminal.say(`to use it: ${use}`);
    return exitCodes.ok;
  },
};
