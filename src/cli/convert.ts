import * as z from 'zod';
import { type Converted, convert as convertPath } from '../api/convert.js';
import { type Opening, openingOfRun } from '../api/opening.js';
import { conversionTargets } from '../api/replace.js';
import { type CommandSpec, exitCodes, parseOptions, UsageError } from './command.js';
import { locating } from './download.js';
import { shellWord } from './flags.js';
import { generateHint } from './hints.js';
import { dtypeOption, jsonOption, overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';
import { showsWork } from './work.js';

const text = z.string().min(1);
const shape = {
  path: text,
  output: text.meta({ valueName: 'path' }).describe('folder to write, or file for --to gguf'),
  to: z
    .enum(conversionTargets)
    .optional()
    .describe('what to write (default: hf for a model, gguf for a PEFT adapter, peft for another adapter)'),
  base: text
    .meta({ valueName: 'model' })
    .optional()
    .describe(
      'model that the adapter is for: folder, .gguf file, hub id or "demo" (default: the one that it names)',
    ),
  dtype: dtypeOption,
  maxShardSize: text
    .meta({ valueName: 'size' })
    .optional()
    .describe('largest file of weights of a model, as 2GB or 500MB (default: 5GB)'),
  overwrite: overwriteOption,
  json: jsonOption,
};
const positional = ['path'];

export const convert: CommandSpec = {
  name: 'convert',
  summary: 'turn models between Hugging Face folders and GGUF, adapters between PEFT, GGUF and mlx-lm',
  description:
    'A model comes from a GGUF file, whose quantized weights become float32 unless --dtype says otherwise, or from a folder, for another dtype or other shards, or as GGUF.\n' +
    "An adapter comes from a PEFT folder, llama.cpp's GGUF file or an mlx-lm folder.",
  positional,
  writes: true,
  groups: { Options: shape },
  examples: [
    'lowrank convert SmolLM2-135M-Instruct.Q4_1.gguf --output SmolLM2-135M-Instruct',
    'lowrank convert my-adapter --to gguf --base SmolLM2-135M-Instruct.Q4_1.gguf --output my-adapter.gguf',
    'lowrank convert my-adapter.gguf --to peft --base ./SmolLM2-135M-Instruct --output my-adapter',
    'lowrank convert ./model --to gguf --dtype q8_0 --output model.gguf',
    'lowrank convert ./model --dtype bfloat16 --max-shard-size 2GB --output ./model-bf16',
  ],
  async run(given, terminal) {
    const {
      path,
      output,
      maxShardSize,
      json: _,
      ...options
    } = parseOptions(z.object(shape), given, positional);
    const maxShardBytes = maxShardSize === undefined ? undefined : bytesOf(maxShardSize);
    const converted = await convertPath(path, output, {
      ...options,
      maxShardBytes,
      onProgress: showsWork(terminal),
      ...locating(terminal),
    });
    tell(converted, output, options.base, await openingOfRun(path), terminal);
    return exitCodes.ok;
  },
};

function tell(
  { what, format, dtype }: Converted,
  output: string,
  base: string | undefined,
  opening: Opening | undefined,
  terminal: Terminal,
): void {
  terminal.emit({ kind: 'saved', what, [format === 'gguf' ? 'file' : 'folder']: output });
  terminal.say(`converted into ${output}${dtype ? `, ${dtype}` : ''}`);
  const word = shellWord(output);
  const model = base === undefined ? 'model.gguf' : shellWord(base);
  const use = {
    hf: generateHint({ model: output }, opening),
    peft: generateHint({ model: base, adapter: output }, opening),
    gguf:
      what === 'model'
        ? `llama-cli --model ${word}`
        : `llama-cli --model ${base?.endsWith('.gguf') ? model : 'model.gguf'} --lora ${word}`,
  };
  terminal.say(`to use it: ${use[format]}`);
}

const UNITS: Record<string, number> = {
  '': 1,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  KI: 2 ** 10,
  MI: 2 ** 20,
  GI: 2 ** 30,
};

/** Bytes of "2GB", "500MB", "1GiB" or "1000000", as Hugging Face counts them. */
export function bytesOf(size: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMG]I?)?B?$/i.exec(size);
  const bytes = match === null ? 0 : Math.floor(Number(match[1]) * UNITS[(match[2] ?? '').toUpperCase()]);
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new UsageError(`--max-shard-size: expected a size such as 2GB or 500MB, found "${size}"`);
}
