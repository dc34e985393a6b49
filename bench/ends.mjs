// How a program ends that is interrupted at random moments of generation, training and evaluation: by model.close(), by
// process.exit() and by an error that nobody catches. Each trial is a process of its own.
//
//     node bench/ends.mjs [closes] [exits] [errors] [seed]
//
// Prints one JSON object: how many trials ended in which way. Wanted of a close: the call under way is refused with a
// UserError, the process ends by itself with 0. Of an exit: its code. Of an error: 1. Never a signal, never a hang.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const WORKS = ['generate', 'train', 'evaluate'];
const HANG_MS = 60_000;
const EXIT_CODE = 3;
const [mode, ...rest] = process.argv.slice(2);

if (mode === 'trial') await trial(...rest);
else await measure(...process.argv.slice(2).map(Number));

/** One program: works, and after `ms` ends in its way. */
async function trial(way, work, ms) {
  const { loadModel, UserError } = await import('../dist/index.js');
  const model = await loadModel('demo', { threads: 1 });
  await model.addLora({ r: 2, targetModules: 'all-linear' });
  const data = Array.from({ length: 40 }, (_, i) => ({
    text: `It rains in Oslo, and on day ${i} it will too.`,
  }));
  const works = {
    generate: () => model.generate('It rains', { maxNewTokens: 100 }),
    train: async () => {
      for await (const _ of model.train({ data, epochs: 2 }));
    },
    evaluate: () => model.evaluate(data, { lossOn: 'all' }),
  };
  let closed;
  setTimeout(() => {
    if (way === 'exit') process.exit(EXIT_CODE);
    if (way === 'error') throw new Error('nobody catches this');
    closed = model.close();
  }, Number(ms));
  try {
    for (;;) await works[work]();
  } catch (error) {
    await closed;
    console.log(error instanceof UserError ? 'refused' : `failed: ${error.stack}`);
  }
}

async function measure(closes = 200, exits = 30, errors = 30, seed = Date.now() % 1e9) {
  const ways = [
    ['close', closes],
    ['exit', exits],
    ['error', errors],
  ];
  const found = Object.fromEntries(ways.map(([way]) => [way, {}]));
  const trials = ways.flatMap(([way, count]) => Array.from({ length: count }, (_, i) => [way, WORKS[i % 3]]));
  const random = mulberry32(seed);
  await Promise.all(
    [0, 1].map(async () => {
      for (let next = trials.shift(); next; next = trials.shift()) {
        const [way, work] = next;
        const end = await endOf([way, work, String(Math.floor(random() * 1500))]);
        found[way][end] = (found[way][end] ?? 0) + 1;
      }
    }),
  );
  console.log(JSON.stringify({ seed, ...found }));
}

/** How a trial ended: by its code or signal, and what it said. */
function endOf(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'trial', ...args]);
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
    });
    child.stderr.resume();
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      child.kill('SIGKILL');
    }, HANG_MS);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve(hung ? 'hang' : [signal ?? `code ${code}`, said.trim()].filter(Boolean).join(', '));
    });
  });
}

function mulberry32(a) {
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
