/** Pairs kept as their sequences are: a file of tokens has the two of each pair one behind the other. */
import type { Encoding, ExampleCache, Examples } from './cache.js';
import type { EncodeStats, Example } from './encode.js';
import type { Pair } from './pairs.js';
import type { ExampleSource } from './source.js';

export class PairCache implements ExampleCache<Pair> {
  constructor(private readonly sequences: ExampleCache<Example>) {}

  async load(key: string | undefined, encode: () => Encoding<Pair>): Promise<Examples<Pair>> {
    // The same rows may be kept as examples of another objective.
    const own = key === undefined ? undefined : `pairs-${key}`;
    const { examples, stats, close } = await this.sequences.load(own, () => flattened(encode()));
    return { examples: new PairsOf(examples), stats: { ...stats, examples: stats.examples / 2 }, close };
  }
}

async function* flattened(encoded: Encoding<Pair>): AsyncGenerator<Example, EncodeStats, void> {
  for (;;) {
    const next = await encoded.next();
    if (next.done) return { ...next.value, examples: 2 * next.value.examples };
    yield next.value.chosen;
    yield next.value.rejected;
  }
}

/** Sequences two by two. */
class PairsOf implements ExampleSource<Pair> {
  readonly length: number;
  readonly lengths?: Uint32Array;

  constructor(private readonly sequences: ExampleSource<Example>) {
    this.length = sequences.length / 2;
    const { lengths } = sequences;
    if (lengths) {
      this.lengths = Uint32Array.from({ length: this.length }, (_, i) =>
        Math.max(lengths[2 * i], lengths[2 * i + 1]),
      );
    }
  }

  at(index: number): Pair | undefined {
    const chosen = this.sequences.at(2 * index);
    const rejected = this.sequences.at(2 * index + 1);
    return chosen && rejected && { chosen, rejected, line: chosen.line };
  }

  *[Symbol.iterator](): Generator<Pair> {
    for (let i = 0; i < this.length; i++) yield this.at(i)!;
  }
}
