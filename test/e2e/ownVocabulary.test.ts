import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/api/convert.js';
import { loadModel } from '../../src/api/loadModel.js';
import type { Model } from '../../src/api/model.js';
import { Rng } from '../../src/base/rng.js';
import { readAdapter, writeAdapter } from '../../src/formats/peft.js';
import { makeWorkspace } from './cliSupport.js';

// An adapter as people save it after tokenizer.add_tokens and model.resize_token_embeddings, with its tokenizer beside it.

const NEW = '<|new|>';
const [ROWS, TOKENS, WIDTH] = [361, 364, 32];
const data = [{ text: `one ${NEW} two ${NEW} three` }];

let root: string;
let model: Model;
const at = (name: string) => join(root, name);
const lossOf = async (of: Model) => (await of.evaluate(data, { lossOn: 'all' })).loss;
const said = (of: Model) => of.generate(`one ${NEW}`, { maxNewTokens: 8, temperature: 0 });

beforeAll(async () => {
  root = await makeWorkspace();
  model = await loadModel(at('model'), { threads: 1 });
  const { values } = await model.addLora({ r: 2, targetModules: ['q_proj'] });
  for (const [name, t] of values) {
    const rng = new Rng(1, name);
    t.data.set(t.data.map(() => 0.3 * rng.normal()));
  }
  await model.saveAdapter(at('plain'));
  const { config, tensors } = await readAdapter(at('plain'));
  const own = await model.base.checkpoint.read('model.embed_tokens.weight');
  const rng = new Rng(1, 'new rows');
  const matrix = Float32Array.from({ length: TOKENS * WIDTH }, (_, i) => own[i] ?? 0.3 * rng.normal());
  for (const module of ['model.embed_tokens', 'lm_head']) {
    tensors.set(`${module}.base_weight`, { shape: [TOKENS, WIDTH], data: matrix });
  }
  for (const folder of ['bare', 'resized']) {
    await mkdir(at(folder));
    await writeAdapter(at(folder), config, tensors);
  }
  const tokenizer = JSON.parse(await readFile(at('model/tokenizer.json'), 'utf8'));
  tokenizer.added_tokens.push({ ...tokenizer.added_tokens.at(-1), id: ROWS, content: NEW, special: false });
  await writeFile(at('resized/tokenizer.json'), JSON.stringify(tokenizer));
  await cp(at('model/tokenizer_config.json'), at('resized/tokenizer_config.json'));
  model.deleteAdapter('default');
});
afterAll(async () => {
  await model.close();
  await rm(root, { recursive: true, force: true });
});

describe('an adapter with a vocabulary and a tokenizer of its own', () => {
  it('is used with both, and the model has its own again without it', async () => {
    const before = await lossOf(model);
    const notices: string[] = [];
    const adapter = await model.loadAdapter(at('resized'), { onNotice: (text) => notices.push(text) });
    expect(notices).toEqual([
      `${at('resized')}: its own matrix of model.embed_tokens and lm_head, of ${TOKENS} tokens, is used in place of the model's, as in PEFT`,
    ]);
    expect(adapter.vocabSize).toBe(TOKENS);
    expect(model.tokenizer.encode(NEW)).toEqual([ROWS]);
    expect(await lossOf(model)).not.toBeCloseTo(before, 3);
    model.deleteAdapter('default');
    expect(model.tokenizer.encode(NEW).length).toBeGreaterThan(1);
    expect(await lossOf(model)).toBe(before);
  });

  it('says that its new tokens are out of reach where it comes without the tokenizer', async () => {
    const notices: string[] = [];
    await model.loadAdapter(at('bare'), { onNotice: (text) => notices.push(text) });
    expect(notices[1]).toContain(
      'no text becomes its new tokens until the files of its tokenizer are put there',
    );
  });

  it('merges into a model with that vocabulary and tokenizer', async () => {
    await model.loadAdapter(at('resized'));
    const [loss, text] = [await lossOf(model), await said(model)];
    await model.saveMerged(at('merged'));
    const merged = await loadModel(at('merged'), { threads: 1 });
    try {
      expect(merged.base.config).toMatchObject({ vocabSize: TOKENS, tieWordEmbeddings: true });
      expect(await lossOf(merged)).toBeCloseTo(loss, 5);
      expect(await said(merged)).toBe(text);
      await merged.addLora({ r: 2 });
    } finally {
      await merged.close();
    }
    model.merge();
    expect(await said(model)).toBe(text);
  });

  it('trains further, and is saved with its matrix and tokenizer', async () => {
    const adapter = await model.loadAdapter(at('resized'), { config: { loraDropout: 0 } });
    const before = await lossOf(model);
    const frozen = adapter.values.get('model.embed_tokens.weight')!.data.slice();
    for await (const _ of model.train({ data, maxSteps: 3, learningRate: 1e-2, lossOn: 'all' }));
    const after = await lossOf(model);
    expect(after).toBeLessThan(before);
    expect(adapter.values.get('model.embed_tokens.weight')!.data).toEqual(frozen);
    await model.saveAdapter(at('further'));
    await model.loadAdapter(at('further'), { name: 'again' });
    expect(await lossOf(model)).toBe(after);
  });

  it('adds up with another on the same matrix', async () => {
    await model.loadAdapter(at('resized'), { name: 'a' });
    const one = await lossOf(model);
    await model.loadAdapter(at('further'), { name: 'b' });
    model.setAdapter(['a', 'b']);
    expect(await lossOf(model)).not.toBeCloseTo(one, 4);
    model.addWeightedAdapter(['a', 'b'], { weights: [1, 0], combination: 'cat' });
    expect(await lossOf(model)).toBeCloseTo(one, 5);
  });

  it('is no GGUF adapter', async () => {
    await expect(
      convert(at('resized'), at('resized.gguf'), { to: 'gguf', base: at('model') }),
    ).rejects.toThrow(`has a vocabulary of ${TOKENS} tokens and ${at('model')} one of ${ROWS}`);
  });
});
