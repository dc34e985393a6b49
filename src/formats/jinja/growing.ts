/**
 * A list that a template is rendered over again and again, a little longer each time, as the turns of a conversation.
 * What a template looked at of the list is noted (Reads). Where the iterations of its loop looked at nothing that a
 * longer list would answer otherwise, they are not run again: a Mark holds what they wrote and what they set.
 */
import { UserError } from '../../base/errors.js';
import { pythonValue, sizeOf } from './fromJson.js';
import {
  Callable,
  Dict,
  Iterator,
  List,
  Loop,
  Markup,
  Namespace,
  Range,
  Tuple,
  Undefined,
  type Value,
} from './values.js';

/** The lengths of the list, between two, of which all that was asked so far has the same answers. */
export class Reads {
  low = 0;
  high = Infinity;
  constructor(readonly length: number) {}

  /** Whether there is an item at that index. */
  has(index: number): boolean {
    if (index < this.length) {
      this.low = Math.max(this.low, index + 1);
      return true;
    }
    this.high = Math.min(this.high, index);
    return false;
  }

  /** The length was asked, or the whole list. */
  whole(): void {
    this.low = Math.max(this.low, this.length);
    this.high = Math.min(this.high, this.length);
  }
}

/** The first items of a growing list, as many as `reads` says, from `start` on. */
export class Prefix extends List {
  private sliced: readonly Value[] | undefined;

  constructor(
    private readonly all: readonly Value[],
    private readonly reads: Reads,
    private readonly start = 0,
  ) {
    super([]);
  }

  /** Whoever takes the items may count them. */
  override get items(): readonly Value[] {
    this.reads.whole();
    this.sliced ??= this.all.slice(this.start, this.reads.length);
    return this.sliced;
  }

  override has(index: number): boolean {
    return this.reads.has(this.start + index);
  }

  override at(index: number): Value | undefined {
    if (index < 0) return super.at(index);
    return this.has(index) ? this.all[this.start + index] : undefined;
  }

  override from(start: number): List {
    return new Prefix(this.all, this.reads, this.start + start);
  }
}

/** Where a loop stood before one of its iterations. */
interface Mark {
  readonly index: number;
  readonly ran: boolean;
  readonly lastChanged: readonly Value[] | undefined;
  /** What the iterations before wrote. */
  readonly text: () => string;
  /** What each namespace held that was there before the loop. */
  readonly namespaces: readonly ReadonlyMap<string, Value>[];
  /** What was looked at until then. */
  readonly low: number;
  readonly high: number;
}

/** One rendering over a growing list. */
export class Growth {
  /** In the order in which they were made. */
  readonly namespaces: Namespace[] = [];
  private loops = 0;

  constructor(
    readonly list: Prefix,
    private readonly reads: Reads,
    private readonly marks: Mark[][],
  ) {}

  /**
   * To be called for each loop that stands in no other; `held` are the values of the names around it. Undefined where the
   * loop has to be run as any.
   */
  loop(over: Value, held: Iterable<Value>): GrowingLoop | undefined {
    this.marks[this.loops] ??= [];
    const marks = this.marks[this.loops++];
    if (!(over instanceof Prefix) || this.reads.high <= this.reads.length) return undefined;
    for (const value of held) {
      if (
        !(value instanceof Prefix || value instanceof Namespace || value instanceof Callable || lasts(value))
      )
        return undefined;
    }
    return new GrowingLoop(marks, this.reads, [...this.namespaces]);
  }
}

/** A loop over a growing list while it runs. */
export class GrowingLoop {
  constructor(
    private readonly marks: Mark[],
    private readonly reads: Reads,
    private readonly namespaces: readonly Namespace[],
  ) {}

  /** Sets all as it was at the last mark that holds for this length too; gives the mark. */
  resume(loop: Loop): Mark | undefined {
    const { marks, reads } = this;
    for (;;) {
      const mark = marks.at(-1);
      if (!mark) return undefined;
      if (mark.low <= reads.length && reads.length <= mark.high) {
        reads.low = Math.max(reads.low, mark.low);
        reads.high = Math.min(reads.high, mark.high);
        for (const [i, held] of mark.namespaces.entries()) {
          const { values } = this.namespaces[i];
          values.clear();
          for (const [name, value] of held) values.set(name, value);
        }
        loop.lastChanged = mark.lastChanged;
        return mark;
      }
      marks.pop();
    }
  }

  /** Marks where the loop stands, before an iteration, if a longer list may go on from there. */
  mark(loop: Loop, ran: boolean, text: () => string): void {
    const { low, high, length } = this.reads;
    if (high <= length || loop.index === (this.marks.at(-1)?.index ?? -1)) return;
    const { index, lastChanged } = loop;
    const values = this.namespaces.flatMap((namespace) => [...namespace.values.values()]);
    if (![...values, ...(lastChanged ?? [])].every(lasts)) return;
    const namespaces = this.namespaces.map((namespace) => new Map(namespace.values));
    this.marks.push({ index, ran, lastChanged, text, namespaces, low, high });
    if (this.marks.length > KEPT) this.marks.shift();
  }
}

/** Some 15 seconds; Qwen 3, which looks at the whole list, gets through 1,600 turns in half of that. */
const MOST_STEPS = 1.5e8;

/** A longer list goes on from one of the last marks: templates look one or two items ahead. */
const KEPT = 16;

/** Whether a value is the same whenever it is looked at, in this rendering and in a later one. */
function lasts(value: Value): boolean {
  if (typeof value !== 'object' || value === null) return true;
  if (value instanceof Prefix || value instanceof Iterator || value instanceof Loop) return false;
  if (value instanceof List || value instanceof Tuple) return value.items.every(lasts);
  if (value instanceof Dict) return value.pairs().every(([key, item]) => lasts(key) && lasts(item));
  return value instanceof Undefined || value instanceof Markup || value instanceof Range;
}

/** The whole of a growing list, and what renderings over its beginnings left behind. */
export class GrowingList {
  private readonly values: readonly Value[];
  private readonly sizes: { items: number; characters: number }[] = [{ items: 1, characters: 0 }];
  private readonly marks = new Map<string, Mark[][]>();
  private steps = 0;

  constructor(items: readonly unknown[]) {
    this.values = items.map((item) => pythonValue(item));
    for (const item of items) {
      const [before, size] = [this.sizes[this.sizes.length - 1], sizeOf(item)];
      this.sizes.push({
        items: before.items + size.items,
        characters: before.characters + size.characters,
      });
    }
  }

  /** Counts the steps of all renderings: those of a template that looks at the whole list grow with its square. */
  spend(steps: number): void {
    this.steps += steps;
    if (this.steps > MOST_STEPS) {
      throw new UserError(
        `the template looks at the whole conversation for each turn, which takes too long for ${this.values.length} turns: split it`,
      );
    }
  }

  /** How much the first `count` items are. */
  size(count: number): { items: number; characters: number } {
    return this.sizes[count];
  }

  /** A rendering of the first `count`. Those of one `kind` must differ in nothing but the count. */
  first(count: number, kind: string): Growth {
    const marks = this.marks.get(kind) ?? [];
    this.marks.set(kind, marks);
    const reads = new Reads(count);
    return new Growth(new Prefix(this.values, reads), reads, marks);
  }
}
