import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { markOf, self } from '../../formats/io/owner.js';
import { batchesOf } from './batches.js';
import { TokenCache } from './cache.js';
import type { EncodeStats, Example } from './encode.js';
import { nextToken } from './nextToken.js';
import { TokenFile, writeTokenFile } from './tokenFile.js';

const root = mkdtempSync(join(tmpdir(), 'tokens-'));
let folder: string;
let made = 0;
beforeEach(() => {
  folder = join(root, `case-${made++}`);
});
afterAll(() => rmSync(root, { recursive: true }));

const example = fc
  .array(fc.tuple(fc.nat(2 ** 24), fc.boolean()), { minLength: 1, maxLength: 30 })
  .chain((tokens) =>
    fc.nat(2 ** 32 - 1).map(
      (line): Example => ({
        ids: Int32Array.from(tokens, ([id]) => id),
        supervised: Uint8Array.from(tokens, ([, target]) => Number(target)),
        line,
      }),
    ),
  );
const some: Example[] = fc.sample(example, { numRuns: 40, seed: 5 });
const tokensOf = (examples: readonly Example[]) => examples.reduce((sum, { ids }) => sum + ids.length, 0);

async function* encoded(examples: readonly Example[]): AsyncGenerator<Example, EncodeStats, void> {
  yield* examples;
  const count = examples.length;
  const tokens = tokensOf(examples);
  const left = {
    truncated: 1,
    dropped: 2,
    unanswered: 1,
    unended: 0,
    empty: 0,
    startedTwice: 0,
    alike: 0,
    cutTurns: 0,
    unread: [],
  };
  return { rows: count, examples: count, ...left, tokens, supervisedTokens: 3, longest: 4 };
}

describe('a file of tokens', () => {
  it('gives back what was put in, by number', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(example, { maxLength: 20 }), async (examples) => {
        const path = join(folder, 'file');
        await writeTokenFile(path, encoded(examples));
        const file = await TokenFile.open(path);
        expect([...file]).toEqual(examples);
        expect([...file.lengths]).toEqual(examples.map(({ ids }) => ids.length));
        expect([file.at(-1), file.at(examples.length)]).toEqual([undefined, undefined]);
        expect(file.stats).toMatchObject({ tokens: tokensOf(examples), dropped: 2 });
        file.close();
      }),
      { numRuns: 30 },
    );
  });

  it('batches as the same examples in memory do', async () => {
    await writeTokenFile(join(folder, 'file'), encoded(some));
    const file = await TokenFile.open(join(folder, 'file'));
    for (const groupByLength of [true, false]) {
      const options = { batchSize: 3, seed: 7, epoch: 1, microBatchTokens: 50, groupByLength, packing: true };
      expect([...batchesOf(file, nextToken, options)]).toEqual([...batchesOf(some, nextToken, options)]);
    }
    file.close();
  });

  it('is refused where bytes are missing or changed in its counts', async () => {
    const path = join(folder, 'file');
    await writeTokenFile(path, encoded(some));
    const whole = readFileSync(path);
    for (const size of [0, 3, 4, 100, whole.length - 4, whole.length - 1]) {
      truncateSync(path, size);
      await expect(TokenFile.open(path)).rejects.toThrow(UserError);
      writeFileSync(path, whole);
    }
    for (const at of [whole.length - 4, whole.length - 20, 4 * tokensOf(some)]) {
      const changed = Uint8Array.from(whole);
      changed[at] ^= 1;
      writeFileSync(path, changed);
      await expect(TokenFile.open(path)).rejects.toThrow(UserError);
    }
  });
});

describe('the cache', () => {
  const never = () => {
    throw new Error('it is encoded again');
  };

  it('encodes what has a key once, and again where its file is broken', async () => {
    const cache = new TokenCache(folder);
    const first = await cache.load('k', () => encoded(some));
    await first.close();
    const second = await cache.load('k', never);
    expect([...second.examples]).toEqual(some);
    expect(second.stats).toEqual(first.stats);
    await second.close();
    truncateSync(join(folder, 'tokens-k'), 50);
    const third = await cache.load('k', () => encoded(some));
    expect([...third.examples]).toEqual(some);
    await third.close();
  });

  it('holds small sets in memory and spills large ones to a file that goes in the end', async () => {
    const held = await new TokenCache(folder).load(undefined, () => encoded(some));
    expect(held.examples).toEqual(some);
    for (const bytes of [0, 300]) {
      const spilled = await new TokenCache(folder, bytes).load(undefined, () => encoded(some));
      expect(spilled.examples).toBeInstanceOf(TokenFile);
      expect([...spilled.examples]).toEqual(some);
      expect(readdirSync(folder)).toHaveLength(1);
      await spilled.close();
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  it('removes what nobody used for two weeks or a dead process left, and nothing else', async () => {
    const cache = new TokenCache(folder);
    for (const key of ['old', 'used']) await (await cache.load(key, () => encoded(some))).close();
    const names = ['gguf-1', 'tokens-old', 'tokens-used'];
    for (const name of names) {
      writeFileSync(join(folder, name), readFileSync(join(folder, 'tokens-used')));
      utimesSync(join(folder, name), 0, 0);
    }
    const dead = markOf({ ...self, start: self.start + 1 });
    writeFileSync(join(folder, `.tokens-x.lowrank-${dead}-0123456789ab.tmp`), '');
    await (await cache.load('used', never)).close();
    await (await cache.load('new', () => encoded(some))).close();
    expect(readdirSync(folder).sort()).toEqual(['gguf-1', 'tokens-new', 'tokens-used']);
  });

  it('leaves nothing behind where a row is refused', async () => {
    async function* broken(): AsyncGenerator<Example, EncodeStats, void> {
      yield some[0];
      throw new UserError('row 2 is broken');
    }
    await expect(new TokenCache(folder).load('k', broken)).rejects.toThrow('row 2 is broken');
    expect(readdirSync(folder)).toEqual([]);
  });
});
