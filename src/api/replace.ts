/** What may be replaced by an output, when asked. */
import { lstat, open, readdir, realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { UserError } from '../base/errors.js';
import { exists } from '../formats/io/node.js';
import { contentOf } from '../formats/io/staging.js';
import { isWithin, prepareOutput, refuseExisting } from '../formats/io/write.js';

/** A model folder, an adapter folder, or a GGUF file. */
export type OutputKind = 'hf' | 'peft' | 'gguf';

/** What a folder of that kind holds for certain. */
const MARKS = { hf: ['config.json', 'model'], peft: ['adapter_config.json', 'adapter'] } as const;

/**
 * Throws UserError where a job may not write `output`: it cannot be written, or something is there. A result of the same
 * kind may be replaced when asked, anything else not: it was not written here. Puts in order what dead processes left
 * there.
 */
export async function claimOutput(output: string, kind: OutputKind, overwrite = false): Promise<void> {
  await prepareOutput(output);
  if (!(await exists(output))) return;
  const isFolder = (await stat(output)).isDirectory();
  if (kind === 'gguf') {
    if (!overwrite)
      throw new UserError(`${output} exists already; choose another output, or ask to overwrite it`);
    if (isFolder || !(await beginsAsGguf(output))) {
      throw new UserError(`${output} is no GGUF file and is not overwritten`);
    }
    return;
  }
  if (!overwrite) return refuseExisting(output);
  if (!isFolder) throw new UserError(`${output} is a file, not a folder`);
  const [mark, what] = MARKS[kind];
  const names = contentOf(await readdir(output));
  if (names.length > 0 && !names.includes(mark)) {
    throw new UserError(`${output} is no ${what} folder and is not overwritten`);
  }
}

async function beginsAsGguf(path: string): Promise<boolean> {
  if (!(await lstat(path)).isFile()) return false;
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString('latin1') === 'GGUF';
  } finally {
    await file.close();
  }
}

/** Throws UserError where `output` is what the job reads from, or holds it. */
export async function refuseInput(output: string, input: string): Promise<void> {
  if (await isSame(input, output)) throw new UserError(`${output} is read from and is not overwritten`);
  if (await isWithin(input, output)) {
    throw new UserError(`${output} holds ${input}, which the job reads, and is not overwritten`);
  }
}

async function isSame(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => realpath(path).catch(() => resolve(path))));
  return one === other;
}
