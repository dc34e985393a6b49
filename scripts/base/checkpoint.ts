import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { F32Tensor } from '../../src/base/tensor.js';
import { writeFileAtomic, writeFolderAtomic } from '../../src/formats/io/write.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../../src/formats/safetensors.js';
import { RUN_FOLDER } from './paths.js';

const FOLDER = join(RUN_FOLDER, 'checkpoint');
const STATE = join(FOLDER, 'state.json');

/** What pre-training goes on from: the parts are tensors by name, e.g. weights and AdamW's moments. */
export interface Progress {
  /** Updates done. */
  step: number;
  /** Seconds of training so far, over all runs. */
  seconds: number;
}

type Parts = Record<string, ReadonlyMap<string, Float32Array>>;

/** Replaces the checkpoint, whole or not at all. */
export async function saveCheckpoint(progress: Progress, parts: Parts): Promise<void> {
  await writeFolderAtomic(
    FOLDER,
    async (folder) => {
      for (const [part, tensors] of Object.entries(parts)) {
        const entries = [...tensors].map(([name, data]) => ({
          name,
          dtype: 'F32' as const,
          shape: [data.length],
          data: () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        }));
        await writeSafetensors(join(folder, `${part}.safetensors`), entries);
      }
      await writeFileAtomic(join(folder, 'state.json'), JSON.stringify(progress));
    },
    { overwrite: true },
  );
}

/** Progress of the last checkpoint; undefined when there is none. */
export async function readProgress(): Promise<Progress | undefined> {
  const text = await readFile(STATE, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Progress);
}

/** Fills `into` with a part of the checkpoint. */
export async function readPart(part: string, into: Map<string, Float32Array>): Promise<void> {
  const { tensors } = await readSafetensorsHeader(join(FOLDER, `${part}.safetensors`));
  for (const [name, info] of tensors) into.set(name, await readTensorF32(info));
}

/** The arrays of a map of tensors. */
export function arraysOf(values: ReadonlyMap<string, F32Tensor>): Map<string, Float32Array> {
  return new Map([...values].map(([name, { data }]) => [name, data]));
}
