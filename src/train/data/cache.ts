/** Encoded data sets: small ones in memory, large ones in files that a later run finds again. */
import { readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from '../../formats/io/node.js';
import { ended, sweep, temporaryFor } from '../../formats/io/staging.js';
import type { EncodeStats, Example } from './encode.js';
import type { ExampleSource } from './source.js';
import { TokenFile, writeTokenFile } from './tokenFile.js';

/** Examples, how they came of their rows, and what frees them. */
export interface Examples<E = Example> {
  examples: ExampleSource<E>;
  stats: EncodeStats;
  close(): Promise<void>;
}

/** What rows become, one after the other, and what was counted of it. */
export type Encoding<E> = AsyncGenerator<E, EncodeStats, void>;

/** Keeps the examples of a data set while they are used, or for a later run. */
export interface ExampleCache<E> {
  /** The examples of `key`, where they are kept, else those of `encode`; without a key they are not kept afterwards. */
  load(key: string | undefined, encode: () => Encoding<E>): Promise<Examples<E>>;
}

/** Keeps them in memory, and nothing afterwards. */
export class MemoryCache<E> implements ExampleCache<E> {
  async load(_key: string | undefined, encode: () => Encoding<E>): Promise<Examples<E>> {
    const examples: E[] = [];
    const encoded = encode();
    for (;;) {
      const next = await encoded.next();
      if (next.done) return { examples, stats: next.value, close: async () => {} };
      examples.push(next.value);
    }
  }
}

/** Memory that tokens of a data set without a key may take, ids and flags together. */
const HELD_BYTES = 64 * 2 ** 20;
const BYTES_A_TOKEN = 5;
/** Files that were not used for so long go when another is written. */
const KEPT_DAYS = 14;
const PREFIX = 'tokens-';

export class TokenCache implements ExampleCache<Example> {
  constructor(
    private readonly folder: string,
    private readonly heldBytes = HELD_BYTES,
  ) {}

  /**
   * The examples of `key`, of its file where there is one, else of `encode` into that file. Without a key they stay in
   * memory as far as they fit, and go to a file that close() removes.
   */
  async load(key: string | undefined, encode: () => Encoding<Example>): Promise<Examples> {
    if (key !== undefined) {
      const path = join(this.folder, `${PREFIX}${key}`);
      const known = await opened(path);
      if (known) {
        await utimes(path, new Date(), new Date());
        return known;
      }
      return this.written(path, encode(), async () => {});
    }
    const encoded = encode();
    const held: Example[] = [];
    for (let bytes = 0; bytes <= this.heldBytes; ) {
      const next = await encoded.next();
      if (next.done) return { examples: held, stats: next.value, close: async () => {} };
      held.push(next.value);
      bytes += next.value.ids.length * BYTES_A_TOKEN;
    }
    const path = temporaryFor(join(this.folder, PREFIX));
    const remove = async () => {
      await rm(path, { force: true });
      ended(path);
    };
    return this.written(path, behind(held, encoded), remove);
  }

  private async written(
    path: string,
    examples: Encoding<Example>,
    afterwards: () => Promise<void>,
  ): Promise<Examples> {
    await this.prune();
    await writeTokenFile(path, examples);
    return open(path, afterwards);
  }

  /** Removes what dead processes left, and what was not used for long. */
  private async prune(): Promise<void> {
    await sweep(this.folder);
    const oldest = Date.now() - KEPT_DAYS * 24 * 3600 * 1000;
    const names = (await exists(this.folder)) ? await readdir(this.folder) : [];
    for (const name of names.filter((n) => n.startsWith(PREFIX))) {
      const path = join(this.folder, name);
      // Another process may be quicker.
      const used = await stat(path).then(
        (info) => info.mtimeMs,
        () => Date.now(),
      );
      if (used < oldest) await rm(path, { force: true });
    }
  }
}

async function open(path: string, afterwards: () => Promise<void>): Promise<Examples> {
  const file = await TokenFile.open(path);
  const close = async () => {
    file.close();
    await afterwards();
  };
  return { examples: file, stats: file.stats, close };
}

/** undefined where there is no whole file: it is a cache, and made anew. */
async function opened(path: string): Promise<Examples | undefined> {
  if (!(await exists(path))) return undefined;
  return open(path, async () => {}).catch(() => undefined);
}

async function* behind(held: Example[], rest: Encoding<Example>): Encoding<Example> {
  yield* held.splice(0);
  return yield* rest;
}
