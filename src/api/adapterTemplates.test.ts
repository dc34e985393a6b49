import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readGguf } from '../formats/gguf/reader.js';
import { tokenizerOf } from '../formats/gguf/tokenizer.js';
import { loadTokenizer } from '../formats/tokenizer.js';
import { convert } from './convert.js';
import { loadModel } from './loadModel.js';
import { embeddedModel } from './locate.js';
import type { LoadOptions } from './modelOptions.js';

/** A template that begins each turn with its own word, and ends it with a token that the model's files call no EOS. */
const templateOf = (word: string) =>
  `{% for m in messages %}${word} {{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}` +
  `{% if add_generation_prompt %}${word} assistant: {% endif %}`;
const rows = [
  {
    messages: [
      { role: 'user', content: 'How is the weather in Oslo?' },
      { role: 'assistant', content: 'It rains.' },
    ],
  },
];

let dir: string;
let model: string;
const file = (name: string) => join(dir, name);
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-templates-'));
  model = file('model');
  await cp(embeddedModel, model, { recursive: true });
  const place = join(model, 'tokenizer_config.json');
  const config = JSON.parse(await readFile(place, 'utf8'));
  config.additional_special_tokens = ['<|im_start|>'];
  config.added_tokens_decoder[2].special = false;
  await writeFile(place, JSON.stringify({ ...config, chat_template: templateOf('Own') }));
  const vocabulary = JSON.parse(await readFile(join(model, 'tokenizer.json'), 'utf8'));
  vocabulary.added_tokens[2].special = false;
  await writeFile(join(model, 'tokenizer.json'), JSON.stringify(vocabulary));
  for (const word of ['Given', 'Other']) await writeFile(file(`${word}.jinja`), templateOf(word));
});
afterAll(() => rm(dir, { recursive: true }));

/** The loss with these adapters over the base, what was told, and the first word of a chat's text. */
async function seen(adapters: readonly string[], options: LoadOptions = {}) {
  const notices: string[] = [];
  const onNotice = (text: string) => notices.push(text);
  const loaded = await loadModel(model, { threads: 1, onNotice, ...options });
  try {
    await loaded.loadAdapters(adapters, { onNotice });
    const { loss } = await loaded.evaluate(rows);
    const template = loaded.tokenizer.chatTemplate!;
    return { loss, notices, word: /(\w+) \{\{/.exec(template)?.[1], loaded };
  } finally {
    await loaded.close();
  }
}

describe('a chat template that is given', () => {
  it("takes the place of the model's, is recorded with the adapter, and is used with it from then on", async () => {
    const [own, given] = [await seen([]), await seen([], { chatTemplate: file('Given.jinja') })];
    expect([own.word, given.word]).toEqual(['Own', 'Given']);
    expect(given.loss).not.toBe(own.loss);

    const training = await loadModel(model, { threads: 1, chatTemplate: file('Given.jinja') });
    await training.addLora({ r: 2 });
    await training.saveAdapter(file('adapter'));
    await training.close();
    expect(await readFile(join(file('adapter'), 'chat_template.jinja'), 'utf8')).toBe(templateOf('Given'));

    const adapter = file('adapter');
    const used = await seen([adapter]);
    expect(used.loss).toBe(given.loss);
    expect(used.notices).toEqual([`${adapter}: its own chat template is used, not the model's`]);
    const other = await seen([adapter], { chatTemplate: file('Other.jinja') });
    expect(other.word).toBe('Other');
    expect(other.notices).toEqual([`${adapter}: its chat template is not used, ${file('Other.jinja')} is`]);
  });

  it('is refused by its name where it is no template', async () => {
    await writeFile(file('broken.jinja'), '{% for m in %}');
    await expect(loadModel(model, { chatTemplate: file('broken.jinja') })).rejects.toThrow(
      new RegExp(`^${file('broken.jinja')}: `),
    );
    await writeFile(file('empty.jinja'), '\n');
    await expect(loadModel(model, { chatTemplate: file('empty.jinja') })).rejects.toThrow(
      `${file('empty.jinja')} is empty, expected a chat template`,
    );
  });
});

describe('a chat template that comes with an adapter', () => {
  it('is that of its tokenizer_config.json too, and is used while the adapter is active', async () => {
    const loaded = await loadModel(model, { threads: 1 });
    try {
      await loaded.addLora({ r: 2 }, { name: 'plain' });
      await loaded.saveAdapter(file('plain'), { name: 'plain' });
      expect(await readdir(file('plain'))).not.toContain('chat_template.jinja');
      await cp(file('plain'), file('trl'), { recursive: true });
      const config = { chat_template: templateOf('Brought') };
      await writeFile(join(file('trl'), 'tokenizer_config.json'), JSON.stringify(config));
      await loaded.loadAdapter(file('trl'), { name: 'trl' });
      expect(loaded.tokenizer.chatTemplate).toBe(templateOf('Brought'));
      loaded.setAdapter('plain');
      expect(loaded.tokenizer.chatTemplate).toBe(templateOf('Own'));
      loaded.setAdapter(['plain', 'trl']);
      expect(loaded.tokenizer.chatTemplate).toBe(templateOf('Brought'));
      loaded.disableAdapters();
      expect(loaded.tokenizer.chatTemplate).toBe(templateOf('Own'));
      loaded.enableAdapters();
      await loaded.saveMerged(file('merged'));
      expect((await loadTokenizer(file('merged'))).chatTemplate).toBe(templateOf('Brought'));
      loaded.setAdapter('trl');
      await loaded.saveMerged(file('merged.gguf'));
      const { config: written } = tokenizerOf(await readGguf(file('merged.gguf')));
      expect(written).toMatchObject({ chat_template: templateOf('Brought') });
    } finally {
      await loaded.close();
    }
  });
});

describe('an adapter with a tokenizer of its own', () => {
  it('is written with it, and with the template that it is used with', async () => {
    const loaded = await loadModel(model, { threads: 1 });
    await loaded.addLora({ r: 2 });
    await loaded.saveAdapter(file('whole'));
    await loaded.close();
    const config = JSON.parse(await readFile(join(model, 'tokenizer_config.json'), 'utf8'));
    const brought = { ...config, chat_template: templateOf('Brought') };
    await writeFile(join(file('whole'), 'tokenizer_config.json'), JSON.stringify(brought));
    await cp(join(model, 'tokenizer.json'), join(file('whole'), 'tokenizer.json'));
    for (const [given, word] of [
      [undefined, 'Brought'],
      [file('Given.jinja'), 'Given'],
    ] as const) {
      const again = await loadModel(model, { threads: 1, chatTemplate: given });
      await again.loadAdapter(file('whole'));
      expect(again.tokenizer.chatTemplate).toBe(templateOf(word));
      await again.saveAdapter(file(`whole-${word}`));
      await again.close();
      expect((await loadTokenizer(file(`whole-${word}`), model)).chatTemplate).toBe(templateOf(word));
    }
  });
});

describe('a merged model', () => {
  it('names the ends that it was taught in its generation_config.json', async () => {
    const endsOf = async (folder: string) =>
      JSON.parse(await readFile(join(folder, 'generation_config.json'), 'utf8')).eos_token_id;
    const loaded = await loadModel(model, { threads: 1 });
    const end = loaded.tokenizer.idOf('<|im_end|>')!;
    expect(loaded.tokenizer.eosIds).toContain(end);
    await loaded.addLora({ r: 2 });
    await loaded.saveMerged(file('taught'));
    await loaded.close();
    expect(await endsOf(file('taught'))).toEqual([0, end]);
    expect((await loadTokenizer(file('taught'))).eosIds).toEqual(loaded.tokenizer.eosIds);
    // A copy is what it is a copy of.
    await convert(model, file('copy'), { to: 'hf' });
    expect(await readdir(file('copy'))).not.toContain('generation_config.json');
  });

  it('has all templates of its base, as has a copy', async () => {
    const withTools = file('with-tools');
    await cp(model, withTools, { recursive: true });
    await mkdir(join(withTools, 'additional_chat_templates'));
    await writeFile(join(withTools, 'chat_template.jinja'), templateOf('Plain'));
    await writeFile(join(withTools, 'additional_chat_templates', 'tool_use.jinja'), templateOf('Tools'));
    await convert(withTools, file('copied'), { to: 'hf' });
    const { chatTemplates } = await loadTokenizer(file('copied'));
    expect(chatTemplates).toMatchObject({ plain: templateOf('Plain'), toolUse: templateOf('Tools') });
  });
});
