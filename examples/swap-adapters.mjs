// Trains two adapters on rows in memory, then swaps them by name on one base that stays loaded.
//   node examples/swap-adapters.mjs [model] [output] [steps]
import { join } from 'node:path';
import { loadModel } from 'lowrank';

const [path = 'demo', output = '.cache/example', steps = '40'] = process.argv.slice(2);
const things = ['the sea', 'a long walk', 'old books', 'winter', 'the city', 'bread', 'a cold bath', 'music'];
const answers = { keen: ' Yes, more than anything.', cool: ' No, I would rather not.' };
const model = await loadModel(path);

for (const [name, completion] of Object.entries(answers)) {
  await model.addLora({ r: 4, targetModules: ['q_proj', 'v_proj', 'down_proj'] }, { name });
  const data = things.map((thing) => ({ prompt: `Do you like ${thing}?`, completion }));
  for await (const event of model.train({ data, maxSteps: Number(steps), learningRate: 1e-2 })) {
    if (event.kind === 'end') console.log(`${name}: trained for ${event.step} steps`);
  }
  await model.saveAdapter(join(output, name), { overwrite: true });
}
const ask = () => model.generate('Do you like the rain?', { maxNewTokens: 12 });

for (const name of ['keen', 'cool', 'keen']) {
  model.setAdapter(name);
  console.log(`${name}:${await ask()}`);
}
model.disableAdapters();
console.log(`neither:${await ask()}`);
await model.close();
