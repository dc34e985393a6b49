/**
 * Kills at file operations: each command that writes is ended by SIGKILL before, within or after one of its operations
 * on the disk, and the next command has to find its way: no dead end, no output that vanished, nothing left over.
 * KILLS says how many (`npm run kills`: 500), KILLS_SEED which, KILLS_OF of what alone.
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import {
  makeWorkspace,
  type Outcome,
  operationsOf,
  readJsonFile,
  startUnder,
  training,
} from '../e2e/cliSupport.js';

const kills = Number(process.env.KILLS ?? 10);
const seed = Number(process.env.KILLS_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Processes at once. */
const LANES = 3;

const train = [...training, '--output', 'out', '--max-steps', '4', '--save-steps', '1'];
const evaluate = ['eval', '--data', 'heldout.jsonl', '--threads', '1', '--model'];

/** What a command leaves in a workspace: paths with hashes of what the files hold. */
type Tree = Map<string, string>;

interface Scenario {
  name: string;
  /** What comes before. */
  before?: (cwd: string) => Promise<unknown>;
  command: readonly string[];
  /** Of the workspace in which the command was killed: what is wrong with it, after the next commands. */
  judge: (place: Killed) => Promise<string | undefined>;
}

interface Killed {
  cwd: string;
  /** Counts up, to try one way after another. */
  turn: number;
  /** The workspace before the command, and after it had come to its end. */
  earlier: Tree;
  whole: Tree;
}

const scenarios: readonly Scenario[] = [
  { name: 'train', command: train, judge: (place) => finishes(place, train) },
  {
    name: 'train --overwrite',
    before: (cwd) => succeeds(cwd, train),
    command: [...train, '--overwrite'],
    async judge(place) {
      const told = await go(place.cwd, ['runs', 'out']);
      if (told.code !== 0) return `the output vanished: ${told.stderr}`;
      if (same(await treeOf(place.cwd), place.earlier)) return undefined;
      return finishes(place, train);
    },
  },
  {
    name: 'train --resume',
    before: interrupted,
    command: ['train', '--output', 'out', '--resume'],
    judge: (place) => finishes(place, train),
  },
  writing('merge', ['merge', '--model', 'model', '--adapter', 'adapter', '--output', 'out']),
  writing('convert to a file', ['convert', 'model', '--to', 'gguf', '--output', 'out.gguf']),
  writing('convert to a folder', ['convert', 'model', '--dtype', 'float16', '--output', 'out']),
  replacing(
    'merge',
    ['merge', '--model', 'model', '--adapter', 'adapter', '--output', 'out', '--overwrite'],
    ['inspect', 'out'],
  ),
  caching('quantize', [...evaluate, 'model', '--quantize', 'int8']),
  caching('quantize a GGUF file', [...evaluate, 'model.gguf', '--quantize', 'int8']),
  caching('a GGUF file', [...evaluate, 'model.gguf']),
];

/** A command that writes an output which is not there: the next one writes it, or finds it whole. */
function writing(name: string, command: readonly string[]): Scenario {
  const judge = async ({ cwd, whole }: Killed) => {
    const next = await go(cwd, command);
    if (next.code !== 0 && !/exists already/.test(next.stderr)) return `a dead end: ${next.stderr}`;
    return difference(await treeOf(cwd), whole);
  };
  return { name, command, judge };
}

/** A command that replaces an output: the next one that looks at it finds the old or the new one whole. */
function replacing(name: string, command: readonly string[], look: readonly string[]): Scenario {
  const judge = async ({ cwd, earlier, whole, turn }: Killed) => {
    const next = turn % 2 === 0 ? look : command;
    const { code, stderr } = await go(cwd, next);
    if (code !== 0) return `a dead end: ${stderr}`;
    const tree = await treeOf(cwd);
    if (next === look && same(tree, earlier)) return undefined;
    return difference(tree, whole);
  };
  const before = (cwd: string) => succeeds(cwd, command.with(command.indexOf('adapter'), 'other'));
  return { name: `${name} --overwrite`, before, command, judge };
}

/** A command that makes an entry of a cache on its way. */
function caching(name: string, command: readonly string[]): Scenario {
  const judge = async ({ cwd, whole }: Killed) => {
    const { code, stderr } = await go(cwd, command);
    if (code !== 0) return `a dead end: ${stderr}`;
    return difference(await treeOf(cwd), whole);
  };
  return { name, command, judge };
}

/** Goes on with a killed run as the command says, starting with each way in turn, until it is complete. */
async function finishes(
  { cwd, turn, whole }: Killed,
  command: readonly string[],
): Promise<string | undefined> {
  const ways = {
    again: command,
    overwrite: [...command, '--overwrite'],
    resume: ['train', '--output', 'out', '--resume'],
  };
  let way = (['again', 'resume', 'overwrite'] as const)[turn % 3];
  const said: string[] = [];
  for (let hops = 0; hops < 3; hops++) {
    const { code, stderr } = await go(cwd, ways[way]);
    if (code === 0 || (await isComplete(cwd))) return difference(await treeOf(cwd), whole);
    said.push(stderr);
    if (/without --resume/.test(stderr)) way = 'again';
    else if (/--resume/.test(stderr)) way = 'resume';
    else if (/--overwrite/.test(stderr)) way = 'overwrite';
    else break;
    const left = staged(await treeOf(cwd));
    if (left.length > 0) return `left over: ${left.join(', ')}`;
  }
  return `a dead end: ${said.join('; ')}`;
}

async function isComplete(cwd: string): Promise<boolean> {
  const record = await readJsonFile(cwd, 'out', 'run.json').catch(() => undefined);
  return record?.status === 'complete';
}

async function treeOf(cwd: string): Promise<Tree> {
  const tree: Tree = new Map();
  for (const entry of await readdir(cwd, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    // The engine's own.
    if (/^(\.ses|mat-debug-\d+\.log)$/.test(entry.name)) continue;
    // A cache's keys are of where the model is.
    const name = relative(cwd, path).replace(/-[0-9a-f]{16}/g, '-KEY');
    if (entry.isDirectory()) tree.set(`${name}/`, '');
    else
      tree.set(
        name,
        isTimed(name)
          ? ''
          : createHash('sha256')
              .update(await readFile(path))
              .digest('hex'),
      );
  }
  return tree;
}

/** What says when it was made, or where. */
function isTimed(name: string): boolean {
  return /(run\.json|metrics\.jsonl|loss\.svg|recipe\.json)$/.test(name);
}

function same(a: Tree, b: Tree): boolean {
  return difference(a, b) === undefined;
}

function staged(tree: Tree): string[] {
  return [...tree.keys()].filter((name) => /(^|\/)\.|\.tmp|^tmp\/./.test(name));
}

function difference(tree: Tree, expected: Tree): string | undefined {
  const left = [...tree.keys()].filter((name) => !expected.has(name));
  if (left.length > 0) return `left over: ${left.join(', ')}`;
  const missing = [...expected.keys()].filter((name) => !tree.has(name));
  if (missing.length > 0) return `vanished: ${missing.join(', ')}`;
  const other = [...tree].filter(([name, hash]) => expected.get(name) !== hash);
  return other.length > 0 ? `not as without a kill: ${other.map(([name]) => name).join(', ')}` : undefined;
}

let root: string;
let template: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kills-'));
  template = await makeWorkspace();
  for (const [r, output] of [
    ['2', 'adapter'],
    ['4', 'other'],
  ]) {
    await succeeds(template, [...training, '--output', output, '--max-steps', '2', '--r', r]);
  }
  await succeeds(template, ['convert', 'model', '--to', 'gguf', '--output', 'model.gguf']);
  await mkdir(join(template, 'tmp'));
  await mkdir(join(template, 'cache'), { recursive: true });
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
  await rm(template, { recursive: true, force: true });
});

const copy = (from: string, to: string) => cp(from, to, { recursive: true, preserveTimestamps: true });

/** Runs a command to its end, or to the kill that the variables say. */
function go(cwd: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return startUnder(variables, cwd, args).outcome;
}

async function succeeds(
  cwd: string,
  args: readonly string[],
  variables: NodeJS.ProcessEnv = {},
): Promise<void> {
  const { code, stderr } = await go(cwd, args, variables);
  expect(code, stderr).toBe(0);
}

/** A run that ended at half of its operations, with a checkpoint. */
async function interrupted(cwd: string): Promise<void> {
  await copy(cwd, `${cwd}.whole`);
  const operations = await operationsOf(`${cwd}.whole`, train);
  const variables = { KILL_AT: `${Math.floor(operations / 2)} after` };
  expect((await go(cwd, train, variables)).signal).toBe('SIGKILL');
  expect((await readdir(join(cwd, 'out', 'checkpoints'))).length).toBeGreaterThan(0);
}

it(`${kills} kills end in nothing that the next command does not mend`, {
  timeout: 4 * 3600_000,
}, async () => {
  const rng = new Rng(seed, 'kills');
  const faults: string[] = [];
  const tried = scenarios.filter(({ name }) => name === (process.env.KILLS_OF ?? name));
  let done = 0;
  for (const [i, scenario] of tried.entries()) {
    const prepared = join(root, `${i}`);
    await copy(template, prepared);
    await scenario.before?.(prepared);
    const earlier = await treeOf(prepared);
    const complete = `${prepared}.complete`;
    await copy(prepared, complete);
    const operations = await operationsOf(complete, scenario.command);
    const whole = await treeOf(complete);
    expect(staged(whole)).toEqual([]);
    const points = Array.from({ length: operations }, (_, n) =>
      ['before', 'half', 'after'].map((moment) => `${n + 1} ${moment}`),
    ).flat();
    const share = Math.floor((kills * (i + 1)) / tried.length) - Math.floor((kills * i) / tried.length);
    const order = rng.permutation(points.length);
    const chosen = Array.from({ length: share }, (_, n) => points[order[n % points.length]]);
    const lane = async () => {
      for (let at = chosen.pop(); at !== undefined; at = chosen.pop()) {
        const turn = done++;
        const cwd = join(root, `${i}-${turn}`);
        await copy(prepared, cwd);
        const killed = await go(cwd, scenario.command, { KILL_AT: at });
        let fault: string | undefined;
        if (killed.signal === 'SIGKILL') fault = await scenario.judge({ cwd, turn, earlier, whole });
        // One that did a little less this time came to its end before.
        else if (killed.code === 0) chosen.push(points[rng.below(points.length)]);
        else fault = `it failed: ${killed.stderr}`;
        if (fault) {
          faults.push(`${scenario.name}, killed at ${at} of ${operations} (${turn}): ${fault}`);
          if (process.env.KILLS) console.log(faults.at(-1));
        }
        await rm(cwd, { recursive: true });
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (process.env.KILLS)
      console.log(
        `${scenario.name}: ${share} kills at ${operations} operations, ${faults.length} faults so far`,
      );
  }
  expect(faults, `KILLS=${kills} KILLS_SEED=${seed}\n${faults.join('\n')}`).toEqual([]);
});
