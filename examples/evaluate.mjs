// Held-out loss of a base and of an adapter on it, and what the adapter costs in parameters.
//   node examples/train.mjs && node examples/evaluate.mjs [model] [adapter] [rows.jsonl]
import { fileURLToPath } from 'node:url';
import { loadModel, UserError } from 'lowrank';

const heldOut = fileURLToPath(new URL('../assets/demo/heldout.jsonl', import.meta.url));
const [path = 'demo', adapter = '.cache/example/adapter', data = heldOut] = process.argv.slice(2);

try {
  const model = await loadModel(path);
  const base = await model.evaluate(data);
  await model.loadAdapter(adapter);
  const adapted = await model.evaluate(data);
  const { total, trainable } = model.parameters;
  console.log(
    `${base.rows} rows, ${base.tokens} supervised tokens, ${base.truncated} cut, ${base.dropped} left out`,
  );
  console.log(`base:    loss ${base.loss.toFixed(4)}, perplexity ${base.perplexity.toFixed(2)}`);
  console.log(`adapter: loss ${adapted.loss.toFixed(4)}, perplexity ${adapted.perplexity.toFixed(2)}`);
  console.log(`the adapter has ${trainable} parameters beside the model's ${total}`);
  await model.close();
} catch (error) {
  // What a person can mend comes as one sentence; anything else is a bug and keeps its stack.
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
