import type { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { f32 } from '../../base/tensor.js';
import { compile } from '../emit.js';
import { add, input, mul } from '../ops/index.js';
import { NodeRuntime } from './node.js';
import type { Held } from './session.js';

const runtime = new NodeRuntime();
afterAll(() => runtime.close());
const m = (name: string, ...shape: (number | string)[]) => input(name, 'float32', shape);

describe('sessions', () => {
  it('lend buffers without copying and bring them back, also after an error', async () => {
    const x = m('x', 'n');
    const session = await runtime.load(compile({ y: add(x, x) }));
    const feed = f32(Float32Array.of(1, 2), [2]);
    const { y } = await session.run({ x: feed }, ['x']);
    expect([...(y.data as Float32Array)]).toEqual([2, 4]);
    expect([...feed.data]).toEqual([1, 2]);
    const square = f32(Float32Array.of(1, 2), [1, 2]);
    await expect(session.run({ x: square }, ['x'])).rejects.toThrow('rank');
    expect([...square.data]).toEqual([1, 2]);
    await session.close();
  });
  it('queue runs that borrow the same buffer', async () => {
    const x = m('x', 'n');
    const session = await runtime.load(compile({ y: add(x, x) }));
    const feed = f32(Float32Array.of(1, 2), [2]);
    const runs = await Promise.all([1, 2, 3].map(() => session.run({ x: feed }, ['x'])));
    expect(runs.map(({ y }) => [...(y.data as Float32Array)])).toEqual([
      [2, 4],
      [2, 4],
      [2, 4],
    ]);
    await session.close();
  });
  it('hold feeds, as many sets as are wanted, until these are released', async () => {
    const session = await runtime.load(compile({ y: mul(m('x', 1), m('k', 1)) }));
    const run = async (held?: Held) => {
      const { y } = await session.run({ x: f32(Float32Array.of(3), [1]) }, [], held);
      return (y.data as Float32Array)[0];
    };
    const [two, five] = [f32(Float32Array.of(2), [1]), f32(Float32Array.of(5), [1])];
    const held = [await session.hold({ k: two }), await session.hold({ k: five })];
    expect(two.data).toHaveLength(0);
    expect([await run(held[0]), await run(held[1]), await run(held[0])]).toEqual([6, 15, 6]);
    await held[0].release();
    await expect(run(held[0])).rejects.toThrow();
    expect(await run(held[1])).toBe(15);
    await session.close();
  });
});

describe('closing a session', () => {
  it('waits its turn behind what was asked before, and refuses what comes after', async () => {
    const session = await runtime.load(compile({ y: add(m('x', 'n'), m('x', 'n')) }));
    const x = f32(Float32Array.of(1, 2), [2]);
    const [held, run, closed] = [
      session.hold({ x }),
      session.run({ x: f32(x.data.slice(), [2]) }),
      session.close(),
    ];
    await expect(session.run({ x })).rejects.toThrow('this session is closed');
    expect([...(await run).y.data]).toEqual([2, 4]);
    await closed;
    await session.close();
    // Nothing is left to give back.
    expect(await (await held).release()).toEqual({});
  });
});

describe('closing the engine', () => {
  it('lets the request under way end, and refuses those behind it and later ones', async () => {
    const own = new NodeRuntime();
    const session = await own.load(compile({ y: add(m('x', 'n'), m('x', 'n')) }));
    const feeds = () => ({ x: f32(Float32Array.of(1, 2), [2]) });
    const runs = [session.run(feeds(), ['x']), session.run(feeds())];
    const refused = expect(runs[1]).rejects.toThrow(new UserError('enough'));
    while (!own.lending) await new Promise((resolve) => setImmediate(resolve));
    await own.close('enough');
    expect([...(await runs[0]).y.data]).toEqual([2, 4]);
    await refused;
    await expect(session.run(feeds())).rejects.toThrow('enough');
    await expect(own.load(compile({ y: m('x', 'n') }))).rejects.toThrow('enough');
    await session.close();
    await own.close();
  });
});

describe('an engine that dies', () => {
  /** Has an error ends the thread, as lack of memory would. */
  const kill = (of: NodeRuntime) =>
    (of as unknown as { thread: { worker: Worker } }).thread.worker.postMessage(null);

  it('ends what it was asked with one sentence, and the next request starts it anew', async () => {
    const own = new NodeRuntime();
    const session = await own.load(compile({ y: mul(m('x', 1), m('k', 1)) }));
    const x = () => f32(Float32Array.of(3), [1]);
    const held = await session.hold({ k: f32(Float32Array.of(2), [1]) });
    const lost = x();
    kill(own);
    const run = session.run({ x: lost }, ['x'], held);
    await expect(run).rejects.toThrow(UserError);
    await expect(run).rejects.toThrow(
      /^the engine stopped: .*; what it was doing is lost, the next call starts it anew$/,
    );
    expect(own.lending).toBeUndefined();
    // What was lent to it is gone; what it held too.
    expect(lost.data).toHaveLength(0);
    await expect(session.run({ x: x() }, [], held)).rejects.toThrow('what it held is lost: begin anew');
    expect(await held.release()).toEqual({});
    const again = await session.hold({ k: f32(Float32Array.of(5), [1]) });
    expect((await session.run({ x: x() }, [], again)).y.data[0]).toBe(15);
    kill(own);
    await own.close();
  });

  it('leaves nothing pending: closing included', async () => {
    const own = new NodeRuntime();
    const session = await own.load(compile({ y: add(m('x', 1), m('x', 1)) }));
    const runs = [1, 2, 3].map(() => session.run({ x: f32(Float32Array.of(3), [1]) }));
    kill(own);
    const ends = await Promise.allSettled([...runs, session.close(), own.close()]);
    expect(ends.slice(3)).toEqual([3, 4].map(() => ({ status: 'fulfilled', value: undefined })));
  });
});
