/** Runs `work` and gives its result, or ends it after so many milliseconds with OutOfTime. */
export type Deadline = <T>(milliseconds: number, work: () => T) => T;

/** Thrown in place of a result by work that was ended. */
export class OutOfTime extends Error {
  constructor(readonly milliseconds: number) {
    super(`took longer than ${milliseconds} ms`);
    this.name = 'OutOfTime';
  }
}
