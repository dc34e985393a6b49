import * as z from 'zod';
import { exportOnnx } from '../api/output.js';
import { onnxDTypes } from '../formats/transformersJs.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import {
  adaptersOption,
  bytesOf,
  jsonOption,
  maxShardSizeOption,
  modelOption,
  modelOrBase,
  outputOption,
  overwriteOption,
} from './options.js';
import { showsWork } from './work.js';

const shape = {
  model: modelOption,
  adapter: adaptersOption.default([]),
  output: outputOption,
  dtype: z
    .array(z.enum(onnxDTypes))
    .optional()
    .describe('element types of the weights, an ONNX file each (default: fp32, q8)'),
  maxShardSize: maxShardSizeOption.describe(
    'weights of a longer ONNX file go into files beside it of at most this size, as 2GB or 500MB (default: 2GB)',
  ),
  overwrite: overwriteOption,
  json: jsonOption,
};
const positional = ['model'];

export const exportCommand: CommandSpec = {
  name: 'export',
  summary: 'write a model, with adapters merged in, as ONNX files for transformers.js',
  description:
    'The folder is what transformers.js 4 loads, from a server or the hub: fp32 in Node by default, q8 (matrices in blocks of 8 ' +
    'bits) in browsers; fp16 is half of fp32 to download.',
  positional,
  writes: true,
  groups: { Options: shape },
  examples: [
    'lowrank export ./SmolLM2-135M-Instruct --output web/my-model',
    'lowrank export --adapter my-adapter --output web/my-model --dtype q8',
  ],
  async run(given, terminal) {
    const {
      adapter,
      output,
      maxShardSize,
      json: _,
      ...options
    } = parseOptions(z.object(shape), given, positional);
    const model = await modelOrBase(options.model, adapter, terminal, '<model>');
    const { files } = await exportOnnx(model, adapter, output, {
      dtype: options.dtype,
      maxShardBytes: maxShardSize === undefined ? undefined : bytesOf(maxShardSize),
      overwrite: options.overwrite,
      onProgress: showsWork(terminal),
      ...locating(terminal),
    });
    terminal.emit({ kind: 'saved', what: 'onnx', folder: output, files });
    terminal.say(`exported into ${output}: ${files.join(', ')}`);
    return exitCodes.ok;
  },
};
