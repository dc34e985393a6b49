import * as z from 'zod';
import { methodShape } from '../api/job.js';
import { type CountedMethodRow, countedMethodRows, type MethodRow, methodRows } from '../api/methods.js';
import { snakeCase } from '../base/names.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { locating } from './download.js';
import { jsonOption } from './options.js';
import { count, percent, table, wrapped } from './text.js';

const shape = {
  model: z
    .string()
    .min(1)
    .meta({ valueName: 'model' })
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
    const note = (text: string) => {
      for (const line of wrapped(text, terminal.columns ?? Number.POSITIVE_INFINITY, '  '))
        terminal.note(line);
    };
    const { lines, left } = tableWithin([head, ...cells], terminal.columns);
    for (const line of lines) terminal.say(line);
    if (left.length > 0) note(`no room for: ${left.join(', ')} (wider lines or --json have all)`);
    for (const row of rows) {
      if ('trainable' in row && 'refused' in row.trainable) note(`${row.name}: ${row.trainable.refused}`);
    }
    return exitCodes.ok;
  },
};

/** Columns of the table, the fullest choice first. */
const CHOICES = [
  [0, 1, 2, 3, 4, 5],
  [0, 1, 2, 4, 5],
  [0, 1, 4, 5],
  [0, 1, 4],
  [0, 4, 5],
];

/** As many columns of a table, header first, as fit into a terminal's, and the names of those left out. */
export function tableWithin(rows: readonly string[][], columns = Number.POSITIVE_INFINITY) {
  const chosen = CHOICES.map((choice) => ({
    lines: table(rows.map((row) => choice.map((at) => row[at]))),
    left: rows[0].filter((_, at) => !choice.includes(at)),
  }));
  return (
    chosen.find(({ lines }) => lines.every((line) => line.length <= columns)) ?? chosen[chosen.length - 1]
  );
}

function trainableText(trainable: CountedMethodRow['trainable']): string {
  if ('refused' in trainable) return 'cannot';
  return `${count(trainable.parameters)} (${percent(trainable.share)})`;
}
