/**
 * A deadline for synchronous work in Node: patterns that come out of files may backtrack for longer than anybody
 * waits. V8 looks for an interrupt inside a loop and inside a regular expression's search; node:vm sends one.
 */
import { createContext, Script } from 'node:vm';
import { OutOfTime } from '../../base/deadline.js';

const sandbox: { work?: () => unknown } = createContext({});
const call = new Script('work()');

/**
 * Runs `work` and gives its result; what it throws is thrown on. It ends wherever it happens to be once the time is
 * over, without `catch` and `finally` of its own: what it changes outside itself may then be half done.
 *
 * A call costs about 0.06 ms (a thread is started), so wrap many searches at once.
 * @throws OutOfTime after `milliseconds`.
 */
export function withDeadline<T>(milliseconds: number, work: () => T): T {
  sandbox.work = work;
  try {
    return call.runInContext(sandbox, { timeout: Math.ceil(milliseconds) }) as T;
  } catch (error) {
    if ((error as { code?: unknown } | null)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
      throw new OutOfTime(milliseconds);
    throw error;
  } finally {
    sandbox.work = undefined;
  }
}
