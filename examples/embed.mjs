// Embeddings by a sentence encoder; of a model that is none, which learns it here from rows of prompts with their completions.
//   node examples/embed.mjs [model] [rows.jsonl] [steps]        (an all-MiniLM-L6-v2 needs no training)
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { loadModel, UserError } from 'lowrank';

const demo = fileURLToPath(new URL('../assets/demo/train.jsonl', import.meta.url));
const [path = 'demo', rows = demo, steps = '20'] = process.argv.slice(2);
const texts = [
  'Oslo, Monday: 3 degrees, light wind from the west, snow.',
  'Snow will fall on Oslo on Monday. Expect a cold day.',
  'Showers will come and go over Perth on Friday. Expect a warm day.',
];

try {
  const model = await loadModel(path, { task: { kind: 'embedding', pooling: 'mean' } });
  const tell = async (title) => {
    const [weather, right, wrong] = await model.embed(texts);
    console.log(
      `${title}: ${dot(weather, right).toFixed(3)} to its report, ${dot(weather, wrong).toFixed(3)} to another`,
    );
  };
  await tell('before');
  await model.addLora({ r: 8, targetModules: 'all-linear' });
  const lines = (await readFile(rows, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const data = lines.map(({ prompt, completion }) => ({ anchor: prompt, positive: completion.trim() }));
  const options = { data, batchSize: 16, maxSteps: Number(steps), learningRate: 2e-3 };
  for await (const event of model.train(options)) {
    if (event.kind === 'step' && event.step % 10 === 0) console.log(`${event.step} ${event.loss.toFixed(3)}`);
  }
  await tell('after');
  await model.close();
} catch (error) {
  // What a person can mend comes as one sentence; anything else is a bug and keeps its stack.
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

/** Of vectors of length 1: the cosine. */
function dot(a, b) {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}
