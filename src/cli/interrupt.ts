const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/**
 * Turns the first Ctrl-C (or SIGTERM) into `first`; the second ends the process at once, as if nothing had been
 * caught. Returns what gives the signals back.
 */
export function onInterrupt(first: () => void): () => void {
  let caught = false;
  const handle = (signal: NodeJS.Signals) => {
    if (!caught) {
      caught = true;
      first();
      return;
    }
    // process.exit would wait for the engine's thread to end its step.
    release();
    process.kill(process.pid, signal);
  };
  const release = () => {
    for (const signal of SIGNALS) process.off(signal, handle);
  };
  for (const signal of SIGNALS) process.on(signal, handle);
  return release;
}
