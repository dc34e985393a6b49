/** What may be replaced by an output, when asked. */
import { lstat, open, readdir, realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { UserError } from '../base/errors.js';
import { exists } from '../formats/io/node.js';
import { isEmptyFolder, isWithin, prepareOutput, whyPrecious } from '../formats/io/write.js';
import { ONNX_FOLDER } from '../formats/transformersJs.js';

/** A model folder, an adapter folder, a GGUF file, or an adapter folder of another method than the input's. */
export const conversionTargets = ['hf', 'peft', 'gguf', 'lora'] as const;
export type ConversionTarget = (typeof conversionTargets)[number];
export type OutputKind = Exclude<ConversionTarget, 'lora'> | 'analysis' | 'onnx';

/** What a folder of that kind holds for certain. */
const MARKS = {
  hf: ['config.json', 'model'],
  peft: ['adapter_config.json', 'adapter'],
  analysis: ['analysis.json', 'analysis'],
  onnx: [ONNX_FOLDER, 'exported model'],
} as const;

/** What a job does with an output that is there. */
export interface ClaimOutputOptions {
  overwrite?: boolean;
  /** Models and adapters that it reads, paths or not: an output that is or holds one stays. */
  inputs?: readonly string[];
}

/**
 * Throws UserError where a job may not write `output`: it cannot be written, or something is there. A result of the same
 * kind may be replaced when asked, anything else not: it was not written here. To ask is only advised where that helps.
 * Puts in order what dead processes left there.
 */
export async function claimOutput(
  output: string,
  kind: OutputKind,
  { overwrite = false, inputs = [] }: ClaimOutputOptions = {},
): Promise<void> {
  await prepareOutput(output);
  if (!(await exists(output)) || (kind !== 'gguf' && (await isEmptyFolder(output)))) return;
  const kept = await whyKept(output, kind, inputs);
  if (!overwrite) {
    const advice = kept ? '' : ', or replace it by the option "overwrite"';
    throw new UserError(`${output} exists already; choose another output${advice}`);
  }
  if (kept) throw new UserError(kept);
}

/** Why something that is there is not to be replaced; undefined where it may be. */
async function whyKept(
  output: string,
  kind: OutputKind,
  inputs: readonly string[],
): Promise<string | undefined> {
  const other = await whyOther(output, kind);
  if (other) return other;
  for (const input of inputs) {
    const why = (await exists(input)) ? await whyInput(output, input) : undefined;
    if (why) return why;
  }
  return kind === 'gguf' ? undefined : whyPrecious(output);
}

/** Why it is nothing of that kind; undefined where it is. */
async function whyOther(output: string, kind: OutputKind): Promise<string | undefined> {
  const isFolder = (await stat(output)).isDirectory();
  if (kind === 'gguf') {
    const isGguf = !isFolder && (await beginsAsGguf(output));
    return isGguf ? undefined : `${output} is no GGUF file and is not overwritten`;
  }
  if (!isFolder) return `${output} is a file, not a folder`;
  const [mark, what] = MARKS[kind];
  const marked = (await readdir(output)).includes(mark);
  return marked ? undefined : `${output} is no ${what} folder and is not overwritten`;
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

/**
 * As claimOutput, for a file of any content: one that is there may be replaced when asked. Throws UserError where that may not
 * be, where it is a folder or an input, and where it cannot be written.
 */
export async function claimFile(
  path: string,
  { overwrite = false, inputs = [] }: ClaimOutputOptions = {},
): Promise<void> {
  await prepareOutput(path);
  if (!(await exists(path))) return;
  if ((await stat(path)).isDirectory()) throw new UserError(`${path} is a folder, not a file`);
  for (const input of inputs) await refuseInput(path, input);
  if (!overwrite)
    throw new UserError(
      `${path} exists already; choose another file, or replace it by the option "overwrite"`,
    );
}

/** Throws UserError where `output` is what the job reads from, or holds it. */
export async function refuseInput(output: string, input: string): Promise<void> {
  const why = await whyInput(output, input);
  if (why) throw new UserError(why);
}

async function whyInput(output: string, input: string): Promise<string | undefined> {
  if (await isSame(input, output)) return `${output} is read from and is not overwritten`;
  if (!(await isWithin(input, output))) return undefined;
  return `${output} holds ${input}, which the job reads, and is not overwritten`;
}

async function isSame(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => realpath(path).catch(() => resolve(path))));
  return one === other;
}
