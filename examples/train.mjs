// Fine-tunes a model with LoRA on the demo's rows, then saves the adapter and a merged model.
//   node examples/train.mjs [model] [output] [steps]
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadModel } from 'lowrank';

const [path = 'demo', output = '.cache/example', steps = '100'] = process.argv.slice(2);
const rows = (name) => fileURLToPath(new URL(`../assets/demo/${name}.jsonl`, import.meta.url));
const prompt = 'Oslo, Friday: -4 degrees, light wind from the north, snow.';

const model = await loadModel(path);
await model.addLora({ r: 8, loraAlpha: 16, targetModules: 'all-linear' });
console.log(`before:${await model.generate(prompt, { maxNewTokens: 48 })}`);

const training = {
  data: rows('train'),
  evalData: rows('heldout'),
  maxSteps: Number(steps),
  learningRate: 3e-3,
};
for await (const event of model.train(training)) {
  if (event.kind === 'step' && event.step % 10 === 0) {
    console.log(`step ${event.step}/${event.steps}: loss ${event.loss.toFixed(3)}`);
  }
  if (event.kind === 'eval') console.log(`held-out loss after ${event.step} steps: ${event.loss.toFixed(3)}`);
}
console.log(`after:${await model.generate(prompt, { maxNewTokens: 48 })}`);

await model.saveAdapter(join(output, 'adapter'), { overwrite: true });
await model.saveMerged(join(output, 'merged'), { overwrite: true });
console.log(`saved ${join(output, 'adapter')} (for PEFT) and ${join(output, 'merged')} (for transformers)`);
await model.close();
