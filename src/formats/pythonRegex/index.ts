/**
 * Python's regular expressions, which PEFT's configurations hold, matched as Python matches them and in bounded time: a
 * pattern may come from a stranger's file. JavaScript's own differ in syntax and in meaning ({,2}, [^]x], \Z, what a
 * group holds after a repetition, letters without case), and nothing stops them where they backtrack.
 */
import { UserError } from '../../base/errors.js';
import { category, sameLetter } from './characters.js';
import { PatternError } from './flags.js';
import type { Node } from './node.js';
import { parsePattern } from './parse.js';

/** Steps of one match; what people write takes some hundreds. */
const MAX_STEPS = 1_000_000;
const MAX_LENGTH = 65_536;

/** Tries the rest of a pattern from a position on. */
type Rest = (at: number) => boolean;
/** Tries a part at a position, and behind it the rest. */
type Part = (at: number, rest: Rest) => boolean;

/** Start and end of the text that a group holds; undefined where it took part in no match. */
export type Span = readonly [start: number, end: number] | undefined;

export class PythonPattern {
  private readonly start: Part;
  private readonly names: ReadonlyMap<string, number>;
  private text: number[] = [];
  private spans: Span[] = [];
  private readonly groups: number;
  private steps = 0;

  /**
   * Errors begin with `what`, as "rank_pattern", and show the pattern as `shown`. Throws UserError for what Python
   * refuses, and for \N{…}.
   */
  constructor(
    private readonly what: string,
    source: string,
    private readonly shown = source,
  ) {
    if (source.length > MAX_LENGTH) throw this.refusal(`it is longer than ${MAX_LENGTH} characters`);
    try {
      const { root, names, groups } = parsePattern(source);
      this.names = names;
      this.groups = groups;
      this.start = this.part(root);
    } catch (error) {
      if (error instanceof PatternError) throw this.refusal(error.message);
      throw error;
    }
  }

  /** Python's re.fullmatch. Throws UserError where it does not come to an end. */
  fullmatch(text: string): boolean {
    return this.run(text, 0, (at) => at === this.text.length) !== undefined;
  }

  /** Python's re.match: what each group holds, the whole match first; undefined where there is none. */
  match(text: string): readonly Span[] | undefined {
    return this.run(text, 0, () => true);
  }

  /** Python's re.search. */
  search(text: string): readonly Span[] | undefined {
    for (let from = 0; from <= [...text].length; from++) {
      const found = this.run(text, from, () => true);
      if (found) return found;
    }
    return undefined;
  }

  /** The text of a named group of re.match. */
  groupOf(text: string, name: string): string | undefined {
    const span = this.match(text)?.[this.names.get(name)!];
    return span && [...text].slice(...span).join('');
  }

  private refusal(why: string): UserError {
    return new UserError(`${this.what} ${this.quoted} is not a regular expression of Python's: ${why}`);
  }

  private endless(text: string): UserError {
    const where = JSON.stringify(text);
    return new UserError(`${this.what} ${this.quoted} comes to no end on ${where}: it backtracks too much`);
  }

  private get quoted(): string {
    return JSON.stringify(this.shown.length > 200 ? `${this.shown.slice(0, 200)}…` : this.shown);
  }

  private run(text: string, from: number, accepts: Rest): readonly Span[] | undefined {
    this.text = Array.from(text, (c) => c.codePointAt(0)!);
    this.spans = new Array<Span>(this.groups).fill(undefined);
    this.steps = 0;
    let end = -1;
    const last: Rest = (at) => {
      if (!accepts(at)) return false;
      end = at;
      return true;
    };
    try {
      if (!this.start(from, last)) return undefined;
    } catch (error) {
      // Deep enough to use up the stack is too deep, too.
      if (error instanceof Endless || error instanceof RangeError) throw this.endless(text);
      throw error;
    }
    return [[from, end], ...this.spans.slice(1)];
  }

  private tick(): void {
    if (++this.steps > MAX_STEPS) throw new Endless();
  }

  private part(node: Node): Part {
    switch (node.type) {
      case 'char':
        return (at, rest) => {
          this.tick();
          return at < this.text.length && node.test(this.text[at]) && rest(at + 1);
        };
      case 'at':
        return (at, rest) => this.isAt(node, at) && rest(at);
      case 'sequence':
        return node.items
          .map((item) => this.part(item))
          .reduceRight<Part>(
            (behind, item) => (at, rest) => item(at, (next) => behind(next, rest)),
            (at, rest) => rest(at),
          );
      case 'branch': {
        const branches = node.branches.map((branch) => this.part(branch));
        return (at, rest) => {
          this.tick();
          return branches.some((branch) => branch(at, rest));
        };
      }
      case 'group':
        return this.group(node.index, this.part(node.body));
      case 'repeat':
        return this.repeat(node);
      case 'look':
        return this.look(node);
      case 'atomic': {
        const body = this.part(node.body);
        return (at, rest) =>
          this.orUndo(() => {
            const end = this.endOf(body, at);
            return end !== undefined && rest(end);
          });
      }
      case 'reference':
        return (at, rest) => {
          const end = this.endOfReference(node, at);
          return end !== undefined && rest(end);
        };
      case 'condition': {
        const [yes, no] = [this.part(node.yes), this.part(node.no)];
        return (at, rest) => (this.spans[node.group] ? yes : no)(at, rest);
      }
    }
  }

  /** Where a part ends whose other ways are not tried once one fits; its groups hold what they took. */
  private endOf(part: Part, at: number): number | undefined {
    let end: number | undefined;
    part(at, (next) => {
      end = next;
      return true;
    });
    return end;
  }

  /** What groups hold is as before where an attempt fails. */
  private orUndo(attempt: () => boolean): boolean {
    const before = [...this.spans];
    if (attempt()) return true;
    this.spans = before;
    return false;
  }

  private group(index: number | undefined, body: Part): Part {
    if (index === undefined) return body;
    return (at, rest) =>
      body(at, (end) => {
        const before = this.spans[index];
        this.spans[index] = [at, end];
        if (rest(end)) return true;
        this.spans[index] = before;
        return false;
      });
  }

  private repeat(node: Extract<Node, { type: 'repeat' }>): Part {
    const { min, max, kind, body } = node;
    if (body.type === 'char' && kind === 'greedy') return this.runOf(body.test, min, max);
    const part = this.part(body);
    if (kind === 'possessive') {
      return (at, rest) =>
        this.orUndo(() => {
          let [end, last] = [at, -1];
          for (let n = 0; n < max; n++) {
            this.tick();
            if (n >= min && end === last) break;
            if (n >= min) last = end;
            const next = this.endOf(part, end);
            if (next === undefined && n < min) return false;
            if (next === undefined) break;
            end = next;
          }
          return rest(end);
        });
    }
    // What repeats without taking anything is tried once, as Python does.
    const loop = (at: number, n: number, last: number, rest: Rest): boolean => {
      this.tick();
      if (n < min) return part(at, (next) => loop(next, n + 1, last, rest));
      const more = () => n < max && at !== last && part(at, (next) => loop(next, n + 1, at, rest));
      return kind === 'greedy' ? more() || rest(at) : rest(at) || more();
    };
    return (at, rest) => loop(at, 0, -1, rest);
  }

  /** As many characters as there are, then fewer. */
  private runOf(test: (code: number) => boolean, min: number, max: number): Part {
    return (at, rest) => {
      let end = at;
      while (end < this.text.length && end - at < max && test(this.text[end])) end++;
      for (; end - at >= min; end--) {
        this.tick();
        if (rest(end)) return true;
      }
      return false;
    };
  }

  private look({ body: inner, negative, width = 0 }: Extract<Node, { type: 'look' }>): Part {
    const body = this.part(inner);
    return (at, rest) => {
      this.tick();
      const from = at - width;
      if (negative) return !this.matches(body, from) && rest(at);
      return this.orUndo(() => from >= 0 && this.endOf(body, from) !== undefined && rest(at));
    };
  }

  /** Whether a part fits somewhere, without a trace. */
  private matches(part: Part, at: number): boolean {
    if (at < 0) return false;
    const before = [...this.spans];
    const found = this.endOf(part, at) !== undefined;
    this.spans = before;
    return found;
  }

  private endOfReference(
    { group, flags }: Extract<Node, { type: 'reference' }>,
    at: number,
  ): number | undefined {
    const span = this.spans[group];
    if (!span) return undefined;
    const [start, stop] = span;
    for (let i = start; i < stop; i++) {
      this.tick();
      const [a, b] = [this.text[i], this.text[at + i - start]];
      if (b === undefined) return undefined;
      if (a !== b && !(flags.ignoreCase && sameLetter(a, flags).includes(b))) return undefined;
    }
    return at + stop - start;
  }

  private isAt({ where, flags }: Extract<Node, { type: 'at' }>, at: number): boolean {
    const { text } = this;
    switch (where) {
      case 'A':
        return at === 0;
      case 'Z':
        return at === text.length;
      case '^':
        return at === 0 || (flags.multiline && text[at - 1] === 10);
      case '$':
        if (at === text.length) return true;
        return text[at] === 10 && (flags.multiline || at === text.length - 1);
      default: {
        if (text.length === 0) return false;
        const isWord = category('w', flags);
        const [before, behind] = [at > 0 && isWord(text[at - 1]), at < text.length && isWord(text[at])];
        return (before !== behind) === (where === 'b');
      }
    }
  }
}

class Endless extends Error {}
