/** What an objective has to know of its examples beforehand: computed once, and kept in the run's folder. */
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { type F32Tensor, f32 } from '../base/tensor.js';
import { encodeF32 } from '../formats/float16.js';
import { exists } from '../formats/io/node.js';
import { makeFolder } from '../formats/io/write.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../formats/safetensors.js';
import { CHECKPOINTS } from './checkpoint.js';
import type { ExampleSource } from './data/source.js';
import type { Preparation, PreparationContext } from './objective.js';

/** Beside the checkpoints, with which it goes when the run is complete. */
const FILE = 'prepared.safetensors';

/**
 * The sets of examples with what is computed of them. With a run folder it is kept there; a run that goes on behind a
 * checkpoint takes it from there, since its model is no longer what it was. Throws UserError where it is not there, or is of
 * other examples.
 */
export async function prepared<E>(
  preparation: Preparation<E>,
  sets: readonly ExampleSource<E>[],
  context: PreparationContext,
  run?: { folder: string; resumed: boolean },
): Promise<ExampleSource<E>[]> {
  const path = run && join(run.folder, CHECKPOINTS, FILE);
  const values = path && run.resumed ? await read(path, sets) : await preparation.compute(sets, context);
  if (path && !run.resumed) {
    await makeFolder(join(run.folder, CHECKPOINTS));
    await writeSafetensors(
      path,
      values.map(({ dims, data }, i) => ({
        name: nameOf(i),
        dtype: 'F32' as const,
        shape: dims,
        data: () => encodeF32(data, 'float32'),
      })),
    );
  }
  return sets.map((examples, i) => preparation.joined(examples, values[i]));
}

const nameOf = (set: number): string => `set ${set}`;

async function read(path: string, sets: readonly ExampleSource<unknown>[]): Promise<F32Tensor[]> {
  const begin = 'begin the run again with --overwrite';
  if (!(await exists(path))) throw new UserError(`${path} is missing, which the run goes on with; ${begin}`);
  const { tensors } = await readSafetensorsHeader(path);
  return Promise.all(
    sets.map(async ({ length }, i) => {
      const info = tensors.get(nameOf(i));
      if (!info || info.shape[0] !== length) {
        throw new UserError(`${path} is of other rows than those that the run would go on with; ${begin}`);
      }
      return f32(await readTensorF32(info), info.shape);
    }),
  );
}
