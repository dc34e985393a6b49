/** What a template may use of the machine: templates come with models, and are programs. */
import { UserError } from '../../base/errors.js';

/** A thousand turns take some 100,000 steps. */
const STEPS = 2_000_000;
/** Characters made and read; the text of a long conversation has some 100,000. */
const CHARACTERS = 1 << 26;
/** The longest single text. */
const MAX_TEXT = 1 << 24;
/** The most calls within one another; Python allows some 300. */
const MAX_DEPTH = 200;
/** Each item and character of the conversation itself allows this many more. */
const STEPS_PER_ITEM = 200;
const PER_CHARACTER = 64;

const TOO_MUCH = 'the template makes too much text';

/** Counts what one rendering uses, and ends it when that is too much. */
export class Budget {
  private steps: number;
  private readonly given: number;
  private characters: number;
  private depth = 0;
  private readonly longest: number;

  /** `items`, `characters`: how much the template was given. */
  constructor(items: number, characters: number) {
    this.given = STEPS + items * STEPS_PER_ITEM;
    this.steps = this.given;
    this.characters = CHARACTERS + characters * PER_CHARACTER;
    this.longest = MAX_TEXT + characters * 4;
  }

  /** Steps taken so far. */
  get used(): number {
    return this.given - this.steps;
  }

  /** Pays for `count` nodes evaluated or items looked at. */
  step(count = 1): void {
    this.steps -= count;
    if (this.steps < 0) throw new UserError('the template takes too many steps: it never ends, or nearly so');
  }

  /** Pays for `count` characters made or read; call it before they are made. */
  text(count: number): void {
    this.characters -= count;
    if (this.characters < 0) throw new UserError(TOO_MUCH);
    this.length(count);
  }

  /** Holds one text against the longest that may be. */
  length(length: number): void {
    if (length > this.longest) throw new UserError(TOO_MUCH);
  }

  /** Runs what may call itself. */
  nested<T>(run: () => T): T {
    if (++this.depth > MAX_DEPTH) throw new UserError('the template nests too deeply');
    try {
      return run();
    } finally {
      this.depth--;
    }
  }
}
