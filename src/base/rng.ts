/**
 * Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
 * 1, 2, 3"). Every stream is named by (seed, stream), so a step, a tensor or a worker draws the same
 * numbers whatever else was drawn before: resuming a run needs no saved state.
 */
const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

function mulHiLo(a: number, b: number): [hi: number, lo: number] {
  const lo = Math.imul(a, b) >>> 0;
  const aLo = a & 0xffff;
  const aHi = a >>> 16;
  const bLo = b & 0xffff;
  const bHi = b >>> 16;
  const mid = aHi * bLo + ((aLo * bLo) >>> 16);
  const mid2 = aLo * bHi + (mid & 0xffff);
  const hi = aHi * bHi + Math.floor(mid / 65536) + Math.floor(mid2 / 65536);
  return [hi >>> 0, lo];
}

/** One block of Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [h0, l0] = mulHiLo(M0, c0);
    const [h1, l1] = mulHiLo(M1, c2);
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A stream of random numbers; equal (seed, stream) give equal numbers on every machine. */
export class Rng {
  private block = 0;
  private words: number[] = [];
  private readonly key: readonly [number, number];
  private readonly streamId: number;

  /** `stream` is a name ("init model.layers.0.q_proj") or a number (a step). */
  constructor(seed: number, stream: string | number = 0) {
    this.key = [seed >>> 0, Math.floor(seed / 4294967296) >>> 0];
    this.streamId = typeof stream === 'number' ? stream >>> 0 : hash32(stream);
  }

  /** A uniform 32-bit unsigned integer. */
  uint32(): number {
    if (this.words.length === 0) this.words = philox4x32([this.block++, 0, this.streamId, 0], this.key);
    return this.words.pop()!;
  }

  /** Uniform in [0, 1) with 32 bits. */
  uniform(): number {
    return this.uint32() / 4294967296;
  }

  /** Standard normal (Box–Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** A uniform integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** A random order of 0 … n-1 (Fisher–Yates). */
  permutation(n: number): number[] {
    return Array.from(this.order(n));
  }

  /** The same order, in four bytes an item. */
  order(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

/** FNV-1a, to turn a stream's name into a number. */
function hash32(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}
