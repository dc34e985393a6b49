import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { messageOf, UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { encodeF32 } from '../formats/float16.js';
import { exists, fileError, readJson, readText, sha256Of } from '../formats/io/node.js';
import { discard } from '../formats/io/staging.js';
import { writeFileAtomic, writeFolderAtomic } from '../formats/io/write.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../formats/safetensors.js';
import type { Adapter } from '../methods/adapter.js';
import type { AdamW } from './optimizer.js';

/** The folder of a run's checkpoints. */
export const CHECKPOINTS = 'checkpoints';
const STATE = 'state.json';
const TENSORS = 'state.safetensors';
/** Hashes of the two, as sha256sum writes and checks them. */
const SUMS = 'state.sha256';

const stateSchema = z.strictObject({
  /** Optimizer steps done. */
  step: z.int().nonnegative(),
  tokens: z.int().nonnegative(),
  /** Lowest evaluation loss so far, and its step. */
  best: z.strictObject({ loss: z.number(), step: z.int() }).nullable(),
  /** Evaluations since one was better. */
  stale: z.int().nonnegative(),
  /** What must be equal for a run to go on: hyper-parameters, method, data. */
  fingerprint: z.string(),
});
export type RunState = z.output<typeof stateSchema>;

/** state.json: the run's state, and the values that its method keeps. */
const fileSchema = stateSchema.extend({ method: z.record(z.string(), z.unknown()).default({}) });

/** Prefix of the tensors that the method keeps. */
const METHOD = 'method ';

/** What changes as a run goes on. */
export interface RunTensors {
  adapter: Adapter;
  optimizer: AdamW;
  /** Values at the best evaluation so far; empty before one. */
  best: Map<string, Float32Array>;
}

/** Writes checkpoint `step` of a run folder: trainable values, optimizer moments and counters; whole or not at all. */
export async function saveCheckpoint(
  run: string,
  { adapter, optimizer, best }: RunTensors,
  state: RunState,
): Promise<string> {
  const folder = join(run, CHECKPOINTS, `step-${String(state.step).padStart(8, '0')}`);
  await writeFolderAtomic(
    folder,
    async (temporary) => {
      const entry = (name: string, shape: readonly number[], data: Float32Array) => ({
        name,
        dtype: 'F32' as const,
        shape,
        data: () => encodeF32(data, 'float32'),
      });
      const entries = [...adapter.values].flatMap(([name, t]) =>
        [
          ['value', t.data] as const,
          ['first', optimizer.first.get(name)] as const,
          ['second', optimizer.second.get(name)] as const,
          ['best', best.get(name)] as const,
        ].flatMap(([kind, data]) => (data ? [entry(`${kind} ${name}`, t.dims, data)] : [])),
      );
      const { tensors, values } = adapter.state;
      for (const [name, t] of tensors) entries.push(entry(METHOD + name, t.dims, t.data));
      await writeSafetensors(join(temporary, TENSORS), entries);
      await writeFileAtomic(join(temporary, STATE), JSON.stringify({ ...state, method: values }, null, 2));
      await writeFileAtomic(join(temporary, SUMS), await sumsOf(temporary));
    },
    { overwrite: true },
  );
  return folder;
}

/** Checkpoint folders of a run, oldest first. */
export async function listCheckpoints(run: string): Promise<string[]> {
  const folder = join(run, CHECKPOINTS);
  if (!(await exists(folder))) return [];
  const names = (await readdir(folder)).filter((n) => /^step-\d{8}$/.test(n)).sort();
  return names.map((n) => join(folder, n));
}

/** Removes all but the newest `keep` checkpoints of those up to `step`, and any beyond: a run went back behind them. */
export async function pruneCheckpoints(run: string, keep: number, step: number): Promise<void> {
  const folders = await listCheckpoints(run);
  const beyond = folders.filter((folder) => stepOf(folder) > step);
  const known = folders.filter((folder) => stepOf(folder) <= step);
  for (const folder of [...beyond, ...known.slice(0, -keep || undefined)]) await discard(folder);
}

function stepOf(folder: string): number {
  return Number(basename(folder).replace('step-', ''));
}

/** Why a checkpoint is not what was written; undefined where it is. */
export async function damageOf(folder: string): Promise<string | undefined> {
  try {
    const sums = await readText(join(folder, SUMS));
    if (sums === (await sumsOf(folder))) return undefined;
    return `${folder} is damaged: its checksums do not match`;
  } catch (error) {
    return `${folder} is damaged: ${messageOf(fileError('read', folder, error))}`;
  }
}

async function sumsOf(folder: string): Promise<string> {
  const lines = [STATE, TENSORS].map(async (name) => `${await sha256Of(join(folder, name))}  ${name}\n`);
  return (await Promise.all(lines)).join('');
}

/**
 * The newest checkpoint that is whole, and what is wrong with those that are newer; undefined where there is none at all.
 * Throws UserError where all are damaged.
 */
export async function newestCheckpoint(
  run: string,
): Promise<{ folder: string; damaged: string[] } | undefined> {
  const damaged: string[] = [];
  for (const folder of (await listCheckpoints(run)).reverse()) {
    const damage = await damageOf(folder);
    if (damage === undefined) return { folder, damaged };
    damaged.push(damage);
  }
  if (damaged.length === 0) return undefined;
  throw new UserError(
    `no checkpoint of ${run} can be used (${damaged.join('; ')}); start over with --overwrite`,
  );
}

/** Restores a checkpoint into an adapter and its optimizer. Throws UserError where they do not belong together. */
export async function loadCheckpoint(
  folder: string,
  { adapter, optimizer, best }: RunTensors,
  fingerprint: string,
): Promise<RunState> {
  const { method, ...state } = await readJson(join(folder, STATE), fileSchema);
  const change = changeOf(state.fingerprint, fingerprint);
  if (change) {
    throw new UserError(`${folder}: the run was started with other options, data or model (${change})`);
  }
  const path = join(folder, TENSORS);
  const { tensors } = await readSafetensorsHeader(path);
  for (const [name, value] of adapter.values) {
    const read = async (kind: string) => {
      const info = tensors.get(`${kind} ${name}`);
      if (info && String(info.shape) !== String(value.dims)) {
        throw new UserError(`${path}: "${kind} ${name}" has shape [${info.shape}], expected [${value.dims}]`);
      }
      return info && readTensorF32(info);
    };
    const data = await read('value');
    if (!data) throw new UserError(`${path}: "value ${name}" is missing`);
    adapter.values.set(name, f32(data, value.dims));
    const bestValue = await read('best');
    if (bestValue) best.set(name, bestValue);
    const [first, second] = [await read('first'), await read('second')];
    if (first && second) {
      optimizer.first.set(name, first);
      optimizer.second.set(name, second);
    }
  }
  adapter.state = { tensors: new Map(), values: method };
  for (const [name, info] of tensors) {
    if (!name.startsWith(METHOD)) continue;
    adapter.state.tensors.set(name.slice(METHOD.length), f32(await readTensorF32(info), info.shape));
  }
  optimizer.steps = state.step;
  return state;
}

/** What fingerprints did not hold from the beginning: of a run that did not record it, it counts as unchanged. */
const LATER = ['chatTemplate'];

/** The first option in which two fingerprints (JSON) differ; undefined where they are of one run. */
function changeOf(before: string, now: string): string | undefined {
  if (before === now) return undefined;
  try {
    const [a, b] = [JSON.parse(before), JSON.parse(now)] as Record<string, unknown>[];
    const keys = Object.keys({ ...a, ...b }).filter((key) => !LATER.includes(key) || key in a);
    for (const key of keys) {
      const [x, y] = [JSON.stringify(a[key]), JSON.stringify(b[key])];
      if (x !== y) return `${key} was ${x}, is ${y}`;
    }
    return undefined;
  } catch {
    return 'its fingerprint differs';
  }
}
