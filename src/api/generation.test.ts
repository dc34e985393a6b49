import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadTokenizer } from '../formats/tokenizer.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { Generator } from './generator.js';
import { loadModel } from './loadModel.js';
import { embeddedModel } from './locate.js';

const PROMPT = 'Oslo, Friday:';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-generation-'));
  await cp(embeddedModel, folder, { recursive: true });
});
afterAll(() => rm(folder, { recursive: true }));

/** Texts of a model with this generation_config.json, and what was told. */
async function texts(content: object, ...calls: object[]): Promise<{ said: string[]; notices: string[] }> {
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify(content));
  const notices: string[] = [];
  const model = await loadModel(folder, { threads: 1, onNotice: (text) => notices.push(text) });
  try {
    const said: string[] = [];
    for (const call of calls) said.push(await model.generate(PROMPT, { maxNewTokens: 12, ...call }));
    return { said, notices };
  } finally {
    await model.close();
  }
}

it("follows a model's generation_config.json, options over it, and tells what is not followed", async () => {
  const plain = await texts({}, {}, { temperature: 1, topK: 0, seed: 3 });
  expect(plain.notices).toEqual([]);
  const own = await texts(
    { do_sample: true, top_k: 0, num_beams: 4, typical_p: 0.5 },
    { temperature: 0 },
    { seed: 3 },
    { doSample: false },
  );
  expect(own.said).toEqual([plain.said[0], plain.said[1], plain.said[0]]);
  expect(own.said[1]).not.toBe(own.said[0]);
  const place = join(folder, 'generation_config.json');
  expect(own.notices).toEqual([`${place}: not followed here: num_beams, typical_p`]);
});

it('says which key is wrong when it generates, and does other work', async () => {
  await writeFile(join(folder, 'generation_config.json'), '{"temperature": "hot"}');
  const model = await loadModel(folder, { threads: 1 });
  await expect(model.generate(PROMPT)).rejects.toThrow(
    'generation_config.json: key "temperature": expected number, received string',
  );
  expect((await model.evaluate([{ text: PROMPT }])).tokens).toBeGreaterThan(0);
  await model.close();
});

it('says once that a prompt spells the BOS that is put before it, and doubles it as transformers does', async () => {
  const folder = fileURLToPath(new URL('../formats/fixtures/tokenizer/sentencepiece', import.meta.url));
  const tokenizer = { tokenizer: await loadTokenizer(folder), folder, model: folder };
  const notices: string[] = [];
  const config = { place: 'x', content: {}, onNotice: (text: string) => notices.push(text) };
  const generator = new Generator(new NodeRuntime(), {}, config);
  expect(generator.encode(tokenizer, 'the river')).toEqual([1, 307, 318]);
  for (let i = 0; i < 2; i++) expect(generator.encode(tokenizer, '<s>the river')).toEqual([1, 1, 307, 318]);
  expect(notices).toEqual([
    'the prompt begins with "<s>", which the tokenizer puts before it too: it stands there twice, as in transformers',
  ]);
});
