/** What the tests of the command line share: a tiny model, rows to train on, and the built command as a child. */
import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Rng } from '../../src/base/rng.js';
import { sizeOf } from '../../src/base/tensor.js';
import { writeCheckpoint } from '../../src/formats/checkpoint.js';
import { encodeF32 } from '../../src/formats/float16.js';
import { parseModelConfig } from '../../src/models/index.js';
import { describe } from '../../src/models/shape.js';

const command = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const tokenizer = fileURLToPath(new URL('../../src/formats/fixtures/tokenizer/bytelevel', import.meta.url));

/** A random Llama with the vocabulary of the tokenizer fixture. */
const config = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 361,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 128,
  tie_word_embeddings: true,
};

/** The start of a command that trains in such a folder. */
export const training = ['train', '--model', 'model', '--data', 'train.jsonl', '--threads', '1'];

/** Arguments with others behind them, which take the place of flags (each with one value) that both have. */
export function overriding(args: readonly string[], more: readonly string[]): string[] {
  const kept = args.filter((arg, i) => !more.includes(arg.startsWith('--') ? arg : args[i - 1]));
  return [...kept, ...more];
}

/** An object that a command wrote. */
export async function readJsonFile(...path: string[]): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(...path), 'utf8')) as Record<string, unknown>;
}

/** A new folder with `model`, `train.jsonl` and `heldout.jsonl`. */
export async function makeWorkspace(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'lowrank-cli-'));
  await makeModel(join(root, 'model'));
  const row = (i: number) => JSON.stringify({ prompt: `${i} is`, completion: i % 2 ? ' odd' : ' even' });
  const rows = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => `${row(from + i)}\n`).join('');
  await writeFile(join(root, 'train.jsonl'), rows(0, 64));
  await writeFile(join(root, 'heldout.jsonl'), rows(64, 80));
  return root;
}

async function makeModel(folder: string): Promise<void> {
  await mkdir(folder);
  await cp(tokenizer, folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const { parameters } = describe(parseModelConfig('config', config));
  const entries = [...parameters].map(([name, shape]) => {
    const rng = new Rng(1, name);
    const value = () => (shape.length === 1 ? 1 : 0.2 * rng.normal());
    const data = () => encodeF32(Float32Array.from({ length: sizeOf(shape) }, value), 'float32');
    return { name, dtype: 'F32' as const, shape, data };
  });
  await writeCheckpoint(folder, entries);
}

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** The command as a child process, running. */
export class Running {
  readonly outcome: Promise<Outcome>;
  private stdout = '';
  private stderr = '';

  constructor(
    private readonly child: ChildProcess,
    input: string,
  ) {
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    child.stdin!.end(input);
    this.outcome = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) =>
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }),
      );
    });
  }

  /** Resolves once stdout matches. */
  async sees(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.stdout)) {
      const ended = await Promise.race([
        this.outcome,
        new Promise<undefined>((resolve) => this.child.stdout!.once('data', () => resolve(undefined))),
      ]);
      if (ended && !pattern.test(this.stdout)) throw new Error(`it ended: ${JSON.stringify(ended)}`);
    }
  }

  /** Closes the pipe that stdout goes to. */
  stopReading(): void {
    this.child.stdout!.destroy();
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

/** Starts `lowrank ...args` in `cwd`. */
export function start(cwd: string, args: readonly string[], input = ''): Running {
  return new Running(spawn(process.execPath, [command, ...args], { cwd, env: environment(cwd) }), input);
}

function environment(cwd: string): NodeJS.ProcessEnv {
  return { ...process.env, LOWRANK_CACHE: join(cwd, 'cache'), LOWRANK_DEBUG: '', npm_command: '' };
}

const killAt = fileURLToPath(new URL('./killAt.mjs', import.meta.url));

/** Starts it with killAt.mjs before it, which the variables tell what to do; temporary files go into `tmp` of `cwd`. */
export function startUnder(variables: NodeJS.ProcessEnv, cwd: string, args: readonly string[]): Running {
  const env = { ...environment(cwd), TMPDIR: join(cwd, 'tmp'), KILL_ROOT: cwd, ...variables };
  return new Running(spawn(process.execPath, ['--import', killAt, command, ...args], { cwd, env }), '');
}

/** How many operations a command does on the disk in its workspace. */
export async function operationsOf(cwd: string, args: readonly string[]): Promise<number> {
  const file = `${cwd}.count`;
  const { code, stderr } = await startUnder({ KILL_COUNT: file }, cwd, args).outcome;
  if (code !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
  const count = Number(await readFile(file, 'utf8'));
  await rm(file);
  return count;
}

/** Runs `lowrank ...args` to its end. */
export function run(cwd: string, args: readonly string[], input = ''): Promise<Outcome> {
  return start(cwd, args, input).outcome;
}

/** The JSON objects of a command's stdout or a metrics file. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
