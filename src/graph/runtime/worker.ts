import { parentPort } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { messageOf } from '../../base/errors.js';
import { createOrtSession, type LoadRequest, releaseOrt, runOrt } from './ort.js';
import type { Feeds } from './session.js';

// The engine's thread. ONNX Runtime blocks the thread that calls it; here that hurts nobody.

export type Request = { id: number } & (
  | { kind: 'load'; session: number; request: LoadRequest }
  | { kind: 'run'; session: number; feeds: Feeds; lent: readonly string[] }
  | { kind: 'hold'; session: number; feeds: Feeds }
  | { kind: 'close'; session: number }
);

export type Reply = { id: number; lent?: Feeds } & ({ outputs: Feeds } | { error: string });

const port = parentPort!;
const sessions = new Map<number, { engine: InferenceSession; held: Feeds }>();

port.on('message', async (message: Request) => {
  const lent: Feeds = {};
  if (message.kind === 'run') for (const name of message.lent) lent[name] = message.feeds[name];
  let reply: Reply;
  try {
    reply = { id: message.id, lent, outputs: await handle(message) };
  } catch (error) {
    reply = { id: message.id, lent, error: messageOf(error) };
  }
  const moved = [...Object.values(lent), ...('outputs' in reply ? Object.values(reply.outputs) : [])];
  port.postMessage(reply, [...new Set(moved.map((t) => t.data.buffer as ArrayBuffer))]);
});

async function handle(message: Request): Promise<Feeds> {
  switch (message.kind) {
    case 'load':
      sessions.set(message.session, { engine: await createOrtSession(message.request), held: {} });
      return {};
    case 'run': {
      const { engine, held } = sessions.get(message.session)!;
      return runOrt(engine, { ...held, ...message.feeds });
    }
    case 'hold':
      Object.assign(sessions.get(message.session)!.held, message.feeds);
      return {};
    case 'close':
      await releaseOrt(sessions.get(message.session)!.engine);
      sessions.delete(message.session);
      return {};
  }
}
