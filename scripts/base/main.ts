import { messageOf, UserError } from '../../src/base/errors.js';
import { writeCorpus } from './corpus.js';
import { writeDemoData } from './demo-data.js';
import { writeInit } from './shape.js';
import { writeTokenizer, writeTokens } from './tokenizer.js';

/** The steps in order; each reads what the one before left in .cache/base. */
const STEPS: Record<string, () => Promise<void>> = {
  corpus: writeCorpus,
  tokenizer: writeTokenizer,
  tokens: writeTokens,
  init: writeInit,
  'demo-data': writeDemoData,
};

const wanted = process.argv.slice(2);
try {
  for (const name of wanted.length > 0 ? wanted : Object.keys(STEPS)) {
    const step = STEPS[name];
    if (step === undefined)
      throw new UserError(`no step "${name}", expected ${Object.keys(STEPS).join(', ')}`);
    console.log(`# ${name}`);
    await step();
  }
} catch (error) {
  console.error(error instanceof UserError ? messageOf(error) : error);
  process.exitCode = 1;
}
