/**
 * ONNX Runtime's arena for the CPU (BFCArena, onnxruntime/core/framework/bfc_arena.cc), as far as it decides how much memory a
 * run takes: regions that grow in powers of two, best fit among free chunks, which are split only where at least half would
 * be wasted.
 */

/** Sizes are rounded up to this. */
const GRAIN = 256;
const FIRST_REGION = 2 ** 20;
const LARGEST_REGION = 2 ** 30;
/** A chunk is split, however little smaller it is than twice the request, where as much would be wasted. */
const MOST_WASTE = 2 ** 27;

/** A piece of a region, free or used. */
export interface Chunk {
  region: Region;
  start: number;
  size: number;
  free: boolean;
  before: Chunk | undefined;
  behind: Chunk | undefined;
}

interface Region {
  /** Its address counts down: the system maps each below the one before. */
  number: number;
  /** Up to where it was ever written: pages behind it take no memory. */
  touched: number;
}

export class Arena {
  private readonly regions: Region[] = [];
  /** Free chunks, the smallest first; of equal ones that of the lowest address. */
  private readonly free: Chunk[] = [];
  private next = FIRST_REGION;

  /** Bytes that were ever written, of all regions. */
  get touched(): number {
    return this.regions.reduce((n, region) => n + region.touched, 0);
  }

  allocate(bytes: number): Chunk {
    const size = Math.max(GRAIN, Math.ceil(bytes / GRAIN) * GRAIN);
    let at = this.free.findIndex((chunk) => chunk.size >= size);
    if (at < 0) {
      this.extend(size);
      at = this.free.findIndex((chunk) => chunk.size >= size);
    }
    const [chunk] = this.free.splice(at, 1);
    chunk.free = false;
    if (chunk.size >= 2 * size || chunk.size - size >= MOST_WASTE) this.split(chunk, size);
    chunk.region.touched = Math.max(chunk.region.touched, chunk.start + bytes);
    return chunk;
  }

  release(chunk: Chunk): void {
    chunk.free = true;
    const { before, behind } = chunk;
    if (behind?.free) {
      this.forget(behind);
      join(chunk, behind);
    }
    if (before?.free) {
      this.forget(before);
      join(before, chunk);
      this.keep(before);
    } else this.keep(chunk);
  }

  private extend(size: number): void {
    let increased = false;
    while (this.next < size) {
      this.next *= 2;
      increased = true;
    }
    const region = { number: this.regions.length, touched: 0 };
    this.regions.push(region);
    this.keep({ region, start: 0, size: this.next, free: true, before: undefined, behind: undefined });
    if (!increased) this.next = Math.min(2 * this.next, LARGEST_REGION);
  }

  private split(chunk: Chunk, size: number): void {
    const { region, start, behind } = chunk;
    const rest: Chunk = {
      region,
      start: start + size,
      size: chunk.size - size,
      free: true,
      before: chunk,
      behind,
    };
    if (behind) behind.before = rest;
    chunk.behind = rest;
    chunk.size = size;
    this.keep(rest);
  }

  private keep(chunk: Chunk): void {
    const at = this.free.findIndex((other) => isBefore(chunk, other));
    this.free.splice(at < 0 ? this.free.length : at, 0, chunk);
  }

  private forget(chunk: Chunk): void {
    this.free.splice(this.free.indexOf(chunk), 1);
  }
}

function isBefore(a: Chunk, b: Chunk): boolean {
  if (a.size !== b.size) return a.size < b.size;
  return a.region === b.region ? a.start < b.start : a.region.number > b.region.number;
}

function join(first: Chunk, second: Chunk): void {
  first.size += second.size;
  first.behind = second.behind;
  if (second.behind) second.behind.before = first;
}
