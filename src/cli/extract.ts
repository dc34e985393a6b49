import * as z from 'zod';
import { extract as extractAdapter, resize as resizeAdapter, type TruncationEvent } from '../api/extract.js';
import { type Opening, openingOfRun } from '../api/opening.js';
import { extractShape } from '../methods/extract.js';
import { type TruncatedLayer, truncationShape } from '../methods/truncate.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { generateHint } from './hints.js';
import { jsonOption, outputOption, overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';
import { counted, percent, table } from './text.js';

const text = z.string().min(1);
const model = (what: string) =>
  text.meta({ valueName: 'model' }).describe(`${what}: model folder, .gguf file, hub id or "demo"`);
const shared = { output: outputOption, overwrite: overwriteOption, json: jsonOption };
const extractOptions = {
  base: model('what it was tuned from'),
  tuned: model('the tuned model'),
  ...extractShape,
  ...shared,
};
const resizeOptions = { adapter: text, ...truncationShape, ...shared };

export const extract: CommandSpec = {
  name: 'extract',
  summary: 'make a LoRA adapter of the difference between two models',
  description:
    'Each layer gets the truncated SVD of its difference. What the adapter cannot hold of it is told as energy:\n' +
    'the share of the squared Frobenius norm.',
  writes: true,
  groups: { Options: extractOptions },
  examples: [
    'lowrank extract --base ./SmolLM2-135M --tuned ./SmolLM2-135M-Instruct --r 32 --output instruct-lora',
    'lowrank extract --base ./base --tuned ./tuned --r 64 --energy 0.9 --output tuned-lora',
  ],
  async run(given, terminal) {
    const { base, tuned, output, json: _, ...options } = parseOptions(z.object(extractOptions), given);
    const work = extractAdapter(base, tuned, output, { ...options, ...locating(terminal) });
    const { left } = await follow(work, terminal);
    if (left.length > 0) {
      terminal.say(
        `not in it  ${counted(left.length, 'tensor')} that differ too: ${left.slice(0, 3).join(', ')}` +
          `${left.length > 3 ? ', ...' : ''}`,
      );
    }
    tellSaved(output, { base, left }, await openingOfRun(tuned), terminal);
    return exitCodes.ok;
  },
};

export const resize: CommandSpec = {
  name: 'resize',
  summary: 'lower the ranks of a LoRA adapter, keeping what matters most',
  description: "Each layer keeps the leading part of the SVD of its B·A, in PEFT's format as before.",
  positional: ['adapter'],
  writes: true,
  groups: { Options: resizeOptions },
  examples: [
    'lowrank resize my-adapter --r 4 --output my-adapter-r4',
    'lowrank resize my-adapter --r 16 --energy 0.95 --output my-adapter-small',
  ],
  async run(given, terminal) {
    const {
      adapter,
      output,
      json: _,
      ...options
    } = parseOptions(z.object(resizeOptions), given, ['adapter']);
    await follow(resizeAdapter(adapter, output, { ...options, ...locating(terminal) }), terminal);
    tellSaved(output, {}, await openingOfRun(adapter), terminal);
    return exitCodes.ok;
  },
};

/** Shows how far it is, and at the end the table. */
async function follow<T>(work: AsyncGenerator<TruncationEvent, T, void>, terminal: Terminal): Promise<T> {
  const layers: TruncationEvent[] = [];
  let next = await work.next();
  for (; !next.done; next = await work.next()) {
    const layer = next.value;
    layers.push(layer);
    terminal.emit({ kind: 'layer', ...layer });
    terminal.status(
      `${layer.done}/${layer.of}  ${layer.site}  r ${layer.r}  ${percent(layer.captured)} of it`,
    );
  }
  for (const line of table(summary(layers))) terminal.say(line);
  return next.value;
}

/** A row for each kind of layer, names that differ only in numbers. */
export function summary(layers: readonly TruncatedLayer[]): (string | number)[][] {
  const kinds = new Map<string, TruncatedLayer[]>();
  for (const layer of layers) {
    const pattern = layer.site.replace(/\.\d+(?=\.|$)/g, '.*');
    kinds.set(pattern, [...(kinds.get(pattern) ?? []), layer]);
  }
  const rows = [...kinds].map(([pattern, group]) => {
    const ranks = group.map(({ r }) => r);
    const captured = group.map((layer) => layer.captured);
    const [low, high] = [Math.min(...ranks), Math.max(...ranks)];
    const squares = group.map(({ norm }) => norm ** 2);
    const energy = squares.reduce((sum, square) => sum + square, 0);
    const held = squares.reduce((sum, square, i) => sum + square * captured[i], 0);
    return [
      pattern,
      group.length,
      low === high ? `${low}` : `${low}-${high}`,
      percent(energy === 0 ? 1 : held / energy),
      percent(Math.min(...captured)),
    ];
  });
  return [['module', 'layers', 'r', 'energy', 'lowest'], ...rows];
}

function tellSaved(
  output: string,
  { base, ...more }: { base?: string; left?: readonly string[] },
  opening: Opening | undefined,
  terminal: Terminal,
): void {
  terminal.emit({ kind: 'saved', what: 'adapter', folder: output, ...more });
  terminal.say(`adapter   ${output} (PEFT's format)`);
  terminal.say(`to use it: ${generateHint({ model: base, adapter: output }, opening)}`);
}
