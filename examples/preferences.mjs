// Teaches a model by preferences (DPO): first what reports look like, then to prefer those of the right town.
//   node examples/preferences.mjs [model] [steps]
import { readFile } from 'node:fs/promises';
import { loadModel } from 'lowrank';

const [path = 'demo', steps = '40'] = process.argv.slice(2);
const rowsOf = async (name) => {
  const text = await readFile(new URL(`../assets/demo/${name}.jsonl`, import.meta.url), 'utf8');
  return text.trimEnd().split('\n').map(JSON.parse);
};
/** Beside each report, that of another town. */
const pairsOf = (rows) =>
  rows.map(({ prompt, completion }, i) => ({
    prompt,
    chosen: completion,
    rejected: rows[(i + 7) % rows.length].completion,
  }));
const train = await rowsOf('train');
const heldOut = (await rowsOf('heldout')).slice(0, 24);

const model = await loadModel(path);
await model.addLora();
const options = { maxSteps: Number(steps), learningRate: 3e-3 };
for await (const event of model.train({ ...options, data: train })) {
  if (event.kind === 'end') console.log(`learned reports in ${event.step} steps`);
}

// The adapter as it is now becomes the reference.
const preferring = { ...options, objective: 'dpo', beta: 0.1, learningRate: 1e-3 };
const some = train.slice(0, 8 * Number(steps));
const events = model.train({ ...preferring, data: pairsOf(some), evalData: pairsOf(heldOut) });
for await (const event of events) {
  if (event.kind !== 'eval') continue;
  const { step, loss, rewardsMargins, rewardsAccuracies } = event;
  const found = [loss, rewardsMargins, rewardsAccuracies].map((x) => x.toFixed(3));
  console.log(`step ${step}: held-out loss ${found[0]}, margin ${found[1]}, accuracy ${found[2]}`);
}
await model.close();
