import * as z from 'zod';
import { methodShape } from '../api/job.js';
import { type CountedMethodRow, countedMethodRows, type MethodRow, methodRows } from '../api/methods.js';
import { snakeCase } from '../base/names.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { jsonOption } from './options.js';
import { count, percent, table } from './text.js';

const shape = {
  model: z
    .string()
    .min(1)
    .optional()
    .describe('model folder, .gguf file, hub id or "demo" to count the parameters of'),
  json: jsonOption,
};
const sizeShape = { r: methodShape.r, targetModules: methodShape.targetModules } as const;

export const methods: CommandSpec = {
  name: 'methods',
  summary: 'what there is to train with: parameters, cost at inference, merging, what PEFT loads',
  description: 'With --model the parameters that each method trains on it, otherwise the formulas.',
  groups: { Options: shape, Size: sizeShape },
  examples: ['lowrank methods', 'lowrank methods --model ./SmolLM2-135M-Instruct --r 16 --json'],
  async run(given, terminal) {
    const { r, targetModules } = given;
    const { model } = parseOptions(z.object(shape), given);
    const options = Object.fromEntries(
      Object.entries({ r, targetModules }).flatMap(([key, value]) =>
        value === undefined ? [] : [[snakeCase(key), value]],
      ),
    );
    const rows: (MethodRow | CountedMethodRow)[] =
      model === undefined ? methodRows() : await countedMethodRows(model, options, locating(terminal));
    for (const row of rows) terminal.emit(row);
    if (terminal.json) return exitCodes.ok;
    const cells = rows.map((row) => [
      row.name,
      row.title,
      'trainable' in row ? trainableText(row.trainable) : row.parameters,
      row.inference,
      row.merges ? 'yes' : 'no',
      row.peft ?? '-',
    ]);
    const head = ['method', 'name', 'trains', 'at inference', 'merges', 'in PEFT'];
    for (const line of table([head, ...cells])) terminal.say(line);
    for (const row of rows) {
      if ('trainable' in row && 'refused' in row.trainable)
        terminal.note(`${row.name}: ${row.trainable.refused}`);
    }
    return exitCodes.ok;
  },
};

function trainableText(trainable: CountedMethodRow['trainable']): string {
  if ('refused' in trainable) return 'cannot';
  return `${count(trainable.parameters)} (${percent(trainable.share)})`;
}
