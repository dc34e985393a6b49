/** Where a run's result comes from: files, machine, software. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { checkJson, parseJson } from '../formats/io/json.js';
import { fileError } from '../formats/io/node.js';
import { packageDependencies, packageVersion } from './version.js';

export const identitySchema = z.object({
  file: z.string(),
  bytes: z.int().nonnegative(),
  sha256: z.string(),
  /** The hash is of pieces of the file. */
  sampled: z.literal(true).optional(),
});
/** A file by its contents. */
export type FileIdentity = z.output<typeof identitySchema>;

export const environmentSchema = z.object({
  os: z.string(),
  arch: z.string(),
  cpu: z.string(),
  /** As the system counts them: logical ones. */
  cores: z.int(),
  memoryBytes: z.number(),
  node: z.string(),
  /** Versions of lowrank and of what it depends on. */
  packages: z.record(z.string(), z.string()),
});
export type Environment = z.output<typeof environmentSchema>;

/** Weights are hashed whole up to this size, and larger ones by so many pieces spread over them. */
const WHOLE_BYTES = 256e6;
const PIECES = 1024;
const PIECE_BYTES = 4096;
const CHUNK_BYTES = 1 << 20;

/** Files of rows: all of each counts. Throws UserError where one cannot be read. */
export function dataIdentities(paths: readonly string[]): Promise<FileIdentity[]> {
  return Promise.all(paths.map((path) => identityOf(path, Number.POSITIVE_INFINITY)));
}

/** The files of a model: the GGUF file, or a folder's configuration, tokenizer and weights. */
export async function modelIdentity(path: string, folder: string): Promise<FileIdentity[]> {
  const isFile = await stat(path).then(
    (info) => info.isFile(),
    () => false, // A hub id, or "demo".
  );
  if (isFile) return [await identityOf(path, WHOLE_BYTES)];
  const names = (await readdir(folder)).filter(
    (name) => ['config.json', 'tokenizer.json'].includes(name) || name.endsWith('.safetensors'),
  );
  return Promise.all(names.sort().map((name) => identityOf(join(folder, name), WHOLE_BYTES)));
}

async function identityOf(path: string, wholeBytes: number): Promise<FileIdentity> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const sampled = size > wholeBytes;
      const buffer = new Uint8Array(sampled ? PIECE_BYTES : CHUNK_BYTES);
      const pieces = sampled ? PIECES : Math.ceil(size / CHUNK_BYTES);
      // The last of the sampled pieces ends where the file does.
      const stride = sampled ? (size - PIECE_BYTES) / (PIECES - 1) : CHUNK_BYTES;
      const hash = createHash('sha256');
      for (let i = 0; i < pieces; i++) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, Math.floor(i * stride));
        hash.update(buffer.subarray(0, bytesRead));
      }
      const sha256 = hash.digest('hex');
      return { file: basename(path), bytes: size, sha256, ...(sampled && { sampled }) };
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError('read', path, error);
  }
}

/** The machine and the software of this process. */
export function environmentNow(): Environment {
  return {
    os: `${platform()} ${release()}`,
    arch: arch(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    node: process.versions.node,
    packages: { lowrank: packageVersion(), ...installed(packageDependencies()) },
  };
}

/** Versions of packages, by their own package.json; those that are not found are left out. */
function installed(names: readonly string[]): Record<string, string> {
  const require = createRequire(import.meta.url);
  const schema = z.looseObject({ version: z.string() });
  const versions: Record<string, string> = {};
  for (const name of names) {
    // Packages need not export their package.json, so it is looked for where Node would find the package.
    const candidates = (require.resolve.paths(name) ?? []).map((folder) =>
      join(folder, name, 'package.json'),
    );
    const path = candidates.find((candidate) => existsSync(candidate));
    if (path) versions[name] = checkJson(path, parseJson(path, readFileSync(path)), schema).version;
  }
  return versions;
}
