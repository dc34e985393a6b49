import { createInterface } from 'node:readline/promises';
import * as z from 'zod';
import type { GenerationEnd } from '../api/generator.js';
import { chatTemplateOption, engineShape } from '../api/job.js';
import { loadModel } from '../api/loadModel.js';
import type { Model } from '../api/model.js';
import { UserError } from '../base/errors.js';
import type { ChatMessage } from '../formats/chat.js';
import { type GenerateInput, generateSchema } from '../serve/generate.js';
import { type CommandSpec, exitCodes, parseOptions, UsageError } from './command.js';
import { locating } from './download.js';
import { adaptersOption, jsonOption, modelOption, modelOrBase } from './options.js';
import type { Terminal } from './terminal.js';
import { counted } from './text.js';

const text = z.string().min(1);
const shape = {
  model: modelOption,
  adapter: adaptersOption.default([]),
  merged: z.boolean().default(false).describe('merge the adapters first: same text, faster tokens'),
  prompt: text.optional().describe('text to continue as it is'),
  chat: text.optional().describe("message to answer, by the model's chat template"),
  system: text.optional().describe('system message of the chat'),
  chatTemplate: chatTemplateOption,
  ...engineShape,
  json: jsonOption,
};

export const generate: CommandSpec = {
  name: 'generate',
  summary: 'continue a prompt or chat with a model, an adapter or both merged',
  description:
    'Without --prompt and --chat it chats in a terminal, and otherwise continues what stdin holds.\n' +
    "What is not given is as the model's generation_config.json says. " +
    'The text goes to stdout, counts and speed to stderr.',
  groups: { Input: shape, Sampling: generateSchema.shape },
  examples: [
    'lowrank generate --model ./SmolLM2-135M-Instruct --chat "Name three rivers."',
    'lowrank generate --adapter my-adapter --prompt "Once upon a time" --temperature 0.8 --top-p 0.95',
    'echo "Once upon a time" | lowrank generate --model demo --max-new-tokens 40',
  ],
  async run(given, terminal) {
    const options = parseOptions(z.object({ ...shape, ...generateSchema.shape }), given);
    const { adapter, merged, prompt, chat, system, quantize, device, threads, chatTemplate } = options;
    if (prompt !== undefined && chat !== undefined)
      throw new UsageError('give either --prompt or --chat, not both');
    if (prompt !== undefined && system !== undefined)
      throw new UsageError('--system belongs to a chat, not to --prompt');
    if (merged && adapter.length === 0) throw new UsageError('--merged needs an --adapter');
    const talk = prompt === undefined && chat === undefined && process.stdin.isTTY === true;
    if (talk && terminal.json) throw new UsageError('--json needs --prompt or --chat, or text on stdin');
    const name = await modelOrBase(options.model, adapter, terminal);
    const input = chat === undefined ? (prompt ?? (talk ? undefined : await textOfStdin())) : undefined;
    const loading = { quantize, device, threads, chatTemplate, ...locating(terminal) };
    const model = await loadModel(name, loading);
    try {
      await model.loadAdapters(adapter, locating(terminal));
      if (merged) model.merge();
      const sampling = generateSchema.strip().parse(options);
      const opening: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
      if (input !== undefined) await answer(model, input, sampling, terminal);
      else if (chat !== undefined) await answer(model, [...opening, user(chat)], sampling, terminal);
      else await converse(model, opening, sampling, terminal);
      return exitCodes.ok;
    } finally {
      await model.close();
    }
  },
};

function user(content: string): ChatMessage {
  return { role: 'user', content };
}

async function textOfStdin(): Promise<string> {
  process.stdin.setEncoding('utf8');
  let all = '';
  for await (const piece of process.stdin) all += piece;
  const input = all.replace(/\r?\n$/, '');
  if (input === '') throw new UsageError('there is no --prompt, no --chat and nothing on stdin');
  return input;
}

/** Streams one generation and its statistics. Returns its text. */
async function answer(
  model: Model,
  prompt: string | readonly ChatMessage[],
  options: GenerateInput,
  terminal: Terminal,
  signal?: AbortSignal,
): Promise<string> {
  const pieces = model.stream(prompt, { ...options, signal });
  const started = performance.now();
  let first: number | undefined;
  let text = '';
  let end: GenerationEnd | undefined;
  while (!end) {
    const next = await pieces.next();
    if (next.done) {
      end = next.value;
      continue;
    }
    first ??= performance.now();
    text += next.value;
    if (!terminal.json) terminal.write(next.value);
  }
  if (!terminal.json) terminal.write('\n');
  const now = performance.now();
  const secondsToFirst = ((first ?? now) - started) / 1000;
  const tokensPerSecond =
    first !== undefined && end.tokens > 1 ? (end.tokens - 1) / ((now - first) / 1000) : null;
  terminal.emit({ text, ...end, secondsToFirst, tokensPerSecond });
  const speed = tokensPerSecond === null ? '' : `, ${tokensPerSecond.toFixed(1)} tokens/s`;
  terminal.note(
    `${counted(end.promptTokens, 'token')} in, ${end.tokens} out (${ENDS[end.reason]}), first after ${secondsToFirst.toFixed(2)} s${speed}`,
  );
  return text;
}

const ENDS: Record<GenerationEnd['reason'], string> = {
  eos: 'ended by the model',
  length: 'cut at the limit',
  stop: 'ended by a stop text',
  aborted: 'interrupted',
};

/** A chat in the terminal. Ctrl-C stops an answer, and at the prompt the chat, as Ctrl-D does. */
async function converse(
  model: Model,
  opening: readonly ChatMessage[],
  options: GenerateInput,
  terminal: Terminal,
): Promise<void> {
  terminal.note('Ctrl-C stops an answer; Ctrl-D ends the chat; an empty line starts it anew.');
  const lines = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' });
  let answering: AbortController | undefined;
  lines.on('SIGINT', () => (answering ? answering.abort() : lines.close()));
  let messages = [...opening];
  try {
    lines.prompt();
    for await (const line of lines) {
      if (line.trim() === '') messages = [...opening];
      else {
        answering = new AbortController();
        messages = await reply([...messages, user(line)], answering.signal);
        answering = undefined;
      }
      lines.prompt();
    }
  } finally {
    lines.close();
  }

  /** The chat with its answer; without the last message where that is refused, as of a chat too long. */
  async function reply(asked: ChatMessage[], signal: AbortSignal): Promise<ChatMessage[]> {
    try {
      const content = await answer(model, asked, options, terminal, signal);
      return [...asked, { role: 'assistant', content }];
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      terminal.note(`${error.message}; an empty line starts anew`);
      return asked.slice(0, -1);
    }
  }
}
