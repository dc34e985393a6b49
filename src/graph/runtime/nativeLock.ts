// A thread that is ended inside the engine's native code takes the whole process with it (SIGABRT): the code throws a
// C++ error that nobody can catch. So the engine's thread says when it is inside. A process that ends waits until it is
// out, and keeps it out.

const OUT = 0;
const INSIDE = 1;
const KEPT_OUT = 2;

/** One number that the engine's thread shares with the thread that started it. */
export type NativeLock = Int32Array<SharedArrayBuffer>;

/** The lock of a thread that is about to start. It begins inside: loading the engine is native code too. */
export function newNativeLock(): NativeLock {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)).fill(INSIDE);
}

/** In the engine's thread: whether it may go inside. It may not where the process is about to end. */
export function enter(lock: NativeLock): boolean {
  return Atomics.compareExchange(lock, 0, OUT, INSIDE) === OUT;
}

/** In the engine's thread: it is out again. */
export function leave(lock: NativeLock): void {
  Atomics.store(lock, 0, OUT);
  Atomics.notify(lock, 0);
}

const running = new Set<NativeLock>();

/** Has the end of this process wait for the thread of `lock`. Returns what takes that back, for when the thread has ended. */
export function holdExit(lock: NativeLock): () => void {
  if (running.size === 0) process.on('exit', keepOut);
  running.add(lock);
  return () => {
    running.delete(lock);
    if (running.size === 0) process.off('exit', keepOut);
  };
}

function keepOut(): void {
  for (const lock of running) {
    while (Atomics.compareExchange(lock, 0, OUT, KEPT_OUT) === INSIDE) Atomics.wait(lock, 0, INSIDE);
  }
}
