import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { openModel } from '../../src/models/base.js';
import { LossStep } from '../../src/train/step.js';
import { END_OF_TEXT } from './corpus.js';
import { BASE_FOLDER, VALID_TEXT, VALID_TOKENS } from './paths.js';
import { MAX_POSITIONS } from './shape.js';
import { readTokens, windowBatch } from './stream.js';

const ROWS = 8;

/** Mean loss in nats a token over windows of MAX_POSITIONS tokens of a stream, each without the text before it. */
export async function heldOutLoss(step: LossStep, tokens: Uint16Array): Promise<number> {
  const count = Math.floor((tokens.length - 1) / MAX_POSITIONS);
  let sum = 0;
  for (let first = 0; first < count; first += ROWS) {
    const rows = Math.min(ROWS, count - first);
    const pieces = Array.from({ length: rows }, (_, i) =>
      tokens.subarray((first + i) * MAX_POSITIONS, (first + i + 1) * MAX_POSITIONS + 1),
    );
    sum += (await step.run(windowBatch(pieces, MAX_POSITIONS))).lossSum;
  }
  return sum / (count * MAX_POSITIONS);
}

/** Measures the model that ships on all held-out text: perplexity a token and bits a byte. */
export async function evaluateBase(): Promise<void> {
  const runtime = new NodeRuntime();
  const step = await LossStep.create(runtime, await openModel(BASE_FOLDER), undefined);
  const tokens = await readTokens(VALID_TOKENS);
  const loss = await heldOutLoss(step, tokens);
  await runtime.close();
  const text = (await readFile(VALID_TEXT, 'utf8')).replaceAll(END_OF_TEXT, '');
  const bitsPerByte = (loss * tokens.length) / Math.LN2 / Buffer.byteLength(text);
  console.log(
    `${join(BASE_FOLDER, 'model.safetensors')}: held-out loss ${loss.toFixed(4)}, ` +
      `perplexity ${Math.exp(loss).toFixed(2)}, ${bitsPerByte.toFixed(3)} bits a byte`,
  );
}
