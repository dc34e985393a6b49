import { parseArgs } from 'node:util';
import { messageOf, UserError } from '../../src/base/errors.js';
import { writeCorpus } from './corpus.js';
import { writeDemoData } from './demo-data.js';
import { evaluateBase } from './evaluate.js';
import { pretrain } from './pretrain.js';
import { writeInit } from './shape.js';
import { writeTokenizer, writeTokens } from './tokenizer.js';

/** The steps in order; each reads what the one before left in .cache/base. */
const STEPS: Record<string, (options: { threads?: number }) => Promise<void>> = {
  corpus: writeCorpus,
  tokenizer: writeTokenizer,
  tokens: writeTokens,
  init: writeInit,
  pretrain,
  evaluate: evaluateBase,
  'demo-data': writeDemoData,
};

try {
  const { positionals: wanted, values } = parseArgs({
    allowPositionals: true,
    options: { threads: { type: 'string' } },
  });
  const threads = values.threads === undefined ? undefined : Number(values.threads);
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0)) {
    throw new UserError(`--threads: "${values.threads}" is no number of threads`);
  }
  for (const name of wanted.length > 0 ? wanted : Object.keys(STEPS)) {
    const step = STEPS[name];
    if (step === undefined)
      throw new UserError(`no step "${name}", expected ${Object.keys(STEPS).join(', ')}`);
    console.log(`# ${name}`);
    await step({ threads });
  }
} catch (error) {
  console.error(error instanceof UserError ? messageOf(error) : error);
  process.exitCode = 1;
}
