import * as z from 'zod';
import { type AnswerTable, type Explanation, explain, explainTopics } from '../api/explain/index.js';
import { engineShape } from '../api/job.js';
import { type CommandSpec, exitCodes, parseOptions } from './command.js';
import { asTyped } from './invocation.js';
import { jsonOption } from './options.js';
import type { Terminal } from './terminal.js';
import { tableOrList, wrapped } from './text.js';
import { showsWork } from './work.js';

const shape = {
  topic: z.string().min(1).optional(),
  seed: z.int().nonnegative().default(0).describe('of the random starts and the order of rows'),
  threads: engineShape.threads,
  json: jsonOption,
};
const positional = ['topic'];

/** Lines of a log. */
const LOG_COLUMNS = 100;

export const explainCommand: CommandSpec = {
  name: 'explain',
  summary: 'answer a question about LoRA with figures that are computed and measured on the spot',
  description:
    'Without a topic, lists them. What is measured is measured on adapters that it trains in seconds on the model that comes along.',
  positional,
  groups: { Options: shape },
  examples: ['lowrank explain', 'lowrank explain zero', 'lowrank explain parameters --json'],
  async run(given, terminal) {
    const { topic, seed, threads } = parseOptions(z.object(shape), given, positional);
    if (topic === undefined) {
      listTopics(terminal);
      return exitCodes.ok;
    }
    const explanation = await explain(topic, { seed, threads, onProgress: showsWork(terminal) });
    terminal.emit(explanation);
    if (!terminal.json) tell(explanation, terminal);
    return exitCodes.ok;
  },
};

function listTopics(terminal: Terminal): void {
  for (const topic of explainTopics) terminal.emit(topic);
  if (terminal.json) return;
  const rows = explainTopics.map(({ name, question }) => [name, question]);
  for (const line of tableOrList([['topic', 'question'], ...rows], columnsOf(terminal))) terminal.say(line);
  terminal.say();
  terminal.say(`to ask one: ${asTyped('lowrank explain zero')}`);
}

function tell({ question, text, tables }: Explanation, terminal: Terminal): void {
  terminal.say(terminal.style('bold', question));
  for (const paragraph of text) {
    terminal.say();
    for (const line of wrapped(paragraph, columnsOf(terminal))) terminal.say(line);
  }
  for (const table of tables) tellTable(table, terminal);
}

function tellTable({ head, rows }: AnswerTable, terminal: Terminal): void {
  terminal.say();
  for (const line of tableOrList([head, ...rows], terminal.columns ?? Number.POSITIVE_INFINITY))
    terminal.say(line);
}

function columnsOf(terminal: Terminal): number {
  return Math.min(LOG_COLUMNS, terminal.columns ?? LOG_COLUMNS);
}
