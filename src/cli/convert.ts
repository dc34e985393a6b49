import * as z from 'zod';
import { type Converted, convert as convertPath } from '../api/convert.js';
import { type Opening, openingOfRun } from '../api/opening.js';
import { conversionTargets } from '../api/replace.js';
import type { AsLora } from '../api/toLora.js';
import { toLoraShape } from '../methods/toLora.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { summary } from './extract.js';
import { shellWord } from './flags.js';
import { generateHint } from './hints.js';
import { bytesOf, dtypeOption, jsonOption, maxShardSizeOption, overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';
import { percent, table } from './text.js';
import { showsWork } from './work.js';

const text = z.string().min(1);
const shape = {
  path: text,
  output: text.meta({ valueName: 'path' }).describe('folder to write, or file for --to gguf'),
  to: z
    .enum(conversionTargets)
    .optional()
    .describe(
      'what to write; lora is a PEFT folder with a LoRA of what another method changes (default: hf for a model, gguf for a PEFT adapter, peft for another adapter)',
    ),
  base: text
    .meta({ valueName: 'model' })
    .optional()
    .describe(
      'model that the adapter is for: folder, .gguf file, hub id or "demo" (default: the one that it names)',
    ),
  ...toLoraShape,
  dtype: dtypeOption,
  maxShardSize: maxShardSizeOption,
  overwrite: overwriteOption,
  json: jsonOption,
};
const positional = ['path'];

export const convert: CommandSpec = {
  name: 'convert',
  summary: 'turn models between Hugging Face folders and GGUF, adapters between PEFT, GGUF and mlx-lm',
  description:
    'A model comes from a GGUF file, whose quantized weights become float32 unless --dtype says otherwise, or from a folder, for another dtype or other shards, or as GGUF.\n' +
    "An adapter comes from a PEFT folder, llama.cpp's GGUF file or an mlx-lm folder.\n" +
    'With --to lora an adapter of any method that merges becomes a LoRA: for each layer the SVD of its change, which is exact where the\n' +
    'change has no more directions than the LoRA; what it holds of the change is told as energy, the share of the squared Frobenius norm.',
  positional,
  writes: true,
  groups: { Options: shape },
  examples: [
    'lowrank convert SmolLM2-135M-Instruct.Q4_1.gguf --output SmolLM2-135M-Instruct',
    'lowrank convert my-adapter --to gguf --base SmolLM2-135M-Instruct.Q4_1.gguf --output my-adapter.gguf',
    'lowrank convert my-adapter.gguf --to peft --base ./SmolLM2-135M-Instruct --output my-adapter',
    'lowrank convert my-miss --to lora --output my-lora',
    'lowrank convert my-dora --to lora --energy 0.99 --output my-lora',
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
    if (converted.lora) tellLora(converted.lora, terminal);
    tell(converted, output, options.base, await openingOfRun(path), terminal);
    return exitCodes.ok;
  },
};

function tellLora({ layers, r, kept }: AsLora, terminal: Terminal): void {
  for (const layer of layers) terminal.emit({ kind: 'layer', ...layer });
  for (const line of table(summary(layers))) terminal.say(line);
  const lost = 1 - kept;
  const held =
    lost > ROUNDING
      ? `${percent(kept)} of the change's energy; ${percent(lost)} is lost, a larger --r or --energy keeps more`
      : "all of the change's energy";
  terminal.say(`the LoRA, of rank ${r} at most, holds ${held}`);
}

/** What float32 leaves. */
const ROUNDING = 1e-9;

function tell(
  { what, format, dtype, lora }: Converted,
  output: string,
  base: string | undefined,
  opening: Opening | undefined,
  terminal: Terminal,
): void {
  const held = lora && { r: lora.r, kept: lora.kept };
  terminal.emit({ kind: 'saved', what, [format === 'gguf' ? 'file' : 'folder']: output, ...held });
  terminal.say(`converted into ${output}${dtype ? `, ${dtype}` : ''}`);
  const word = shellWord(output);
  const model = base === undefined ? 'model.gguf' : shellWord(base);
  const adapter = generateHint({ model: base, adapter: output }, opening);
  const use = {
    hf: generateHint({ model: output }, opening),
    peft: adapter,
    lora: adapter,
    gguf:
      what === 'model'
        ? `llama-cli --model ${word}`
        : `llama-cli --model ${base?.endsWith('.gguf') ? model : 'model.gguf'} --lora ${word}`,
  };
  terminal.say(`to use it: ${use[format]}`);
}
