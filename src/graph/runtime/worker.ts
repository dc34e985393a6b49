import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { messageOf } from '../../base/errors.js';
import { enter, leave, type NativeLock } from './nativeLock.js';
import type { LoadRequest } from './ort.js';
import type { Feeds } from './session.js';

// The engine's thread. ONNX Runtime blocks the thread that calls it; here that hurts nobody.

/** What it is asked, one request at a time. `held` names feeds that a session has from before. */
export type Request =
  | { kind: 'load'; session: number; request: LoadRequest }
  | { kind: 'run'; session: number; feeds: Feeds; lent: readonly string[]; held?: number }
  | { kind: 'hold'; session: number; held: number; feeds: Feeds }
  | { kind: 'release'; session: number; held: number }
  | { kind: 'close'; session: number }
  | { kind: 'end' };

export type Reply = { lent?: Feeds } & ({ outputs: Feeds } | { error: string });

const port = parentPort!;
const lock = workerData as NativeLock;
const sessions = new Map<number, { engine: InferenceSession; held: Map<number, Feeds> }>();

// An error ends this thread too, and then it is out of native code for good.
process.on('exit', () => leave(lock));
const { createOrtSession, releaseOrt, runOrt } = await import('./ort.js');
leave(lock);

port.on('message', async (message: Request) => {
  // The process ends, and nobody waits for an answer.
  if (!enter(lock)) return;
  const lent: Feeds = {};
  if (message.kind === 'run') for (const name of message.lent) lent[name] = message.feeds[name];
  let reply: Reply;
  try {
    reply = { lent, outputs: await handle(message) };
  } catch (error) {
    reply = { lent, error: messageOf(error) };
  }
  leave(lock);
  const moved = [...Object.values(lent), ...('outputs' in reply ? Object.values(reply.outputs) : [])];
  port.postMessage(reply, [...new Set(moved.map((t) => t.data.buffer as ArrayBuffer))]);
});

async function handle(message: Request): Promise<Feeds> {
  switch (message.kind) {
    case 'load':
      sessions.set(message.session, { engine: await createOrtSession(message.request), held: new Map() });
      return {};
    case 'run': {
      const { engine, held } = sessions.get(message.session)!;
      return runOrt(engine, { ...(message.held && held.get(message.held)), ...message.feeds });
    }
    case 'hold':
      sessions.get(message.session)!.held.set(message.held, message.feeds);
      return {};
    case 'release': {
      const { held } = sessions.get(message.session)!;
      const feeds = held.get(message.held)!;
      held.delete(message.held);
      return feeds;
    }
    case 'close':
      await releaseOrt(sessions.get(message.session)!.engine);
      sessions.delete(message.session);
      return {};
    case 'end':
      for (const { engine } of sessions.values()) await releaseOrt(engine);
      sessions.clear();
      // With the port closed nothing is left to wait for, and the thread ends by itself.
      port.close();
      return {};
  }
}
