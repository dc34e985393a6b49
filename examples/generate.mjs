// Streams text from the base, from the base with an adapter beside it, and with the adapter merged.
//   node examples/train.mjs && node examples/generate.mjs [model] [adapter] [tokens]
import { loadModel } from 'lowrank';

const [path = 'demo', adapter = '.cache/example/adapter', tokens = '48'] = process.argv.slice(2);
const prompt = 'Tokyo, Sunday: 17 degrees, fresh wind from the east, rain.';
const model = await loadModel(path);

async function say(title) {
  process.stdout.write(`${title}:`);
  for await (const piece of model.stream(prompt, { maxNewTokens: Number(tokens) })) {
    process.stdout.write(piece);
  }
  process.stdout.write('\n');
}

await say('base');
await model.loadAdapter(adapter);
await say('adapter apart'); // two small products more at each adapted layer
model.merge();
await say('adapter merged'); // W + (α/r)·B·A is computed once; a token costs what the base's costs
model.disableAdapters();
await say('base again'); // the base's weights were never touched
await model.close();
