import { UserError } from '../base/errors.js';
import type { WorkOptions } from '../base/work.js';

/** The calls of one model. Closing it ends those under way with a UserError, and later ones are refused with one. */
export class Calls {
  private readonly closing = new AbortController();
  private readonly ends = new Set<(error: Error) => void>();
  private readonly finishing = new Set<Promise<unknown>>();
  private readonly changed = new Set<object>();
  private changing: Promise<unknown> | undefined;
  private ended: Promise<void> | undefined;

  /** Aborts when the model is closed. */
  get closed(): AbortSignal {
    return this.closing.signal;
  }

  /** Throws UserError once the model is closed. */
  check(): void {
    if (this.closed.aborted) throw new UserError('the model is closed: load it again');
  }

  /** A call that gives a promise. `work` is called at once. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    this.check();
    return this.untilClosed(work);
  }

  /** As run, of a call that writes: close waits until it has cleaned up. */
  finish<T>(work: () => Promise<T>): Promise<T> {
    return this.run(() => {
      const result = work();
      const settled: Promise<unknown> = result.catch(() => {}).then(() => this.finishing.delete(settled));
      this.finishing.add(settled);
      return result;
    });
  }

  /** As run, of a call that changes what the model is made of: such ones take their turns, in the order of the calls. */
  change<T>(work: () => Promise<T>): Promise<T> {
    return this.run(() => {
      const turn = async () => {
        this.check();
        return work();
      };
      const result = this.changing ? this.changing.then(turn) : turn();
      const settled = result
        .catch(() => {})
        .then(() => {
          if (this.changing === settled) this.changing = undefined;
        });
      this.changing = settled;
      return result;
    });
  }

  /** A call that gives one thing after the other. `begin` is called at once, and what it throws comes with the first. */
  steps<T, R>(begin: () => AsyncGenerator<T, R, void>): AsyncGenerator<T, R, void> {
    const begun = this.run(async () => begin());
    // Whoever asks for the first hears of it; where nobody asks, it is no unhandled rejection.
    begun.catch(() => {});
    return this.each(begun);
  }

  /** Steps that change `what` in place, the values of an adapter: refused with a UserError while others do. */
  async *alone<T>(what: object, steps: AsyncGenerator<T, void, void>): AsyncGenerator<T, void, void> {
    if (this.changed.has(what)) {
      throw new UserError(
        'this adapter is being trained already: end that run first (its loop, or its return()), or train another adapter',
      );
    }
    this.changed.add(what);
    try {
      yield* steps;
    } finally {
      this.changed.delete(what);
    }
  }

  /**
   * Ends the calls under way, and then what they compute with, by `end`, which is told why; resolves when those that write
   * have cleaned up.
   */
  close(end: (why: string) => Promise<void>): Promise<void> {
    this.ended ??= this.endAll(end);
    return this.ended;
  }

  private async endAll(end: (why: string) => Promise<void>): Promise<void> {
    const why = 'the model was closed while this was under way';
    const error = new UserError(why);
    this.closing.abort(error);
    for (const reject of this.ends) reject(error);
    await end(why);
    await Promise.all(this.finishing);
  }

  private untilClosed<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.ends.add(reject);
      work()
        .then(resolve, reject)
        .finally(() => this.ends.delete(reject));
    });
  }

  private async *each<T, R>(begun: Promise<AsyncGenerator<T, R, void>>): AsyncGenerator<T, R, void> {
    const steps = await begun;
    try {
      for (;;) {
        this.closed.throwIfAborted();
        const next = await this.untilClosed(() => steps.next());
        if (next.done) return next.value;
        yield next.value;
      }
    } finally {
      const ended = steps.return(undefined as R);
      if (this.closed.aborted) ended.catch(() => {});
      else await ended;
    }
  }
}

/** Work that ends when `closed` aborts too. */
export function endingWith<W extends object>(closed: AbortSignal, work: W & Pick<WorkOptions, 'signal'>): W {
  return { ...work, signal: work.signal ? AbortSignal.any([work.signal, closed]) : closed };
}
