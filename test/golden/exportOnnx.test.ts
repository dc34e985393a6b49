import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AutoModel, AutoTokenizer, env, pipeline, type Tensor } from '@huggingface/transformers';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/api/loadModel.js';
import { exportOnnx } from '../../src/api/output.js';
import { loadTokenizer, type Tokenizer } from '../../src/formats/tokenizer.js';
import { writeOnnxModel } from '../../src/methods/exportOnnx.js';
import { openModel } from '../../src/models/base.js';
import { encode } from './encoderRun.js';
import { openSuite } from './fixture.js';
import { golden, relativeError } from './reference.js';

// Text in and text out, in transformers.js as here: tokenizers, templates, what ends an answer; and what is refused.

const { runtime, scratch } = openSuite('export-onnx');
const at = (name: string) => join(scratch, name);
env.allowRemoteModels = false;
env.localModelPath = scratch;
const json = async (path: string) => JSON.parse(await readFile(path, 'utf8'));

describe('a chat model', () => {
  const messages = [{ role: 'user' as const, content: 'What is the weather like?' }];
  const length = 24;

  it('says in transformers.js what it says here, with an adapter merged in', async () => {
    const model = await loadModel('demo', { threads: 1 });
    const adapter = await model.addLora({
      r: 4,
      loraAlpha: 32,
      targetModules: 'all-linear',
      initLoraWeights: false,
    });
    expect(adapter.values.size).toBeGreaterThan(0);
    const done: number[] = [];
    const exported = await model.exportOnnx(at('demo'), { onProgress: ({ done: n }) => done.push(n) });
    expect(exported).toEqual({
      files: ['onnx/model.onnx', 'onnx/model_quantized.onnx'],
      dtype: ['fp32', 'q8'],
    });
    expect(done[0]).toBe(1);
    const greedy = { temperature: 0, maxNewTokens: length };
    const here = await Promise.all([
      model.generate('Once upon a time', greedy),
      model.generate(messages, greedy),
    ]);
    await model.close();
    for (const dtype of ['fp32', 'q8'] as const) {
      const generator = await pipeline('text-generation', 'demo', { dtype });
      const options = { do_sample: false, max_new_tokens: length, return_full_text: false };
      const say = async (prompt: unknown) => {
        const [{ generated_text: text }] = (await generator(prompt as string, options)) as {
          generated_text: unknown;
        }[];
        return typeof text === 'string' ? text : (text as { content: string }[]).at(-1)!.content;
      };
      const there = [await say('Once upon a time'), await say(messages)];
      // Eight bits may choose other words after a while.
      const shown = (texts: readonly string[]) =>
        texts.map((text) => (dtype === 'q8' ? text.slice(0, 8) : text).trim());
      expect(shown(there), dtype).toEqual(shown(here));
    }
    expect((await json(at('demo/generation_config.json'))).eos_token_id).toEqual([0, 2]);
    expect((await json(at('demo/tokenizer_config.json'))).chat_template).toContain('<|im_start|>');
    expect(await json(at('demo/config.json'))).not.toHaveProperty(['transformers.js_config']);
  });
});

describe('an encoder', () => {
  const texts = ['cab bad', 'a dab deaf face fade'];
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    await cp(golden('fixtures-encoders/bert'), at('encoder'), { recursive: true });
    const letters = [...'abcdef'];
    const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', ...letters, ...letters.map((c) => `##${c}`)];
    const token = (content: string) => ({ id: content, type_id: 0 });
    const piece = (content: string, type: number) => ({ SpecialToken: { ...token(content), type_id: type } });
    const text = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
    const added = ['[PAD]', '[UNK]', '[CLS]', '[SEP]'].map((content, id) => ({
      ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
    }));
    const content = {
      version: '1.0',
      added_tokens: added,
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: {
        type: 'TemplateProcessing',
        single: [piece('[CLS]', 0), text('A', 0), piece('[SEP]', 0)],
        pair: [piece('[CLS]', 0), text('A', 0), piece('[SEP]', 0), text('B', 1), piece('[SEP]', 1)],
        special_tokens: Object.fromEntries(
          [2, 3].map((id) => [words[id], { id: words[id], ids: [id], tokens: [words[id]] }]),
        ),
      },
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: {
        type: 'WordPiece',
        unk_token: '[UNK]',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(words.map((word, id) => [word, id])),
      },
    };
    await writeFile(at('encoder/tokenizer.json'), JSON.stringify(content));
    // As older models have it: tokens in a file of their own, one of them an object.
    const special = {
      pad_token: { content: '[PAD]', lstrip: false },
      cls_token: '[CLS]',
      sep_token: '[SEP]',
    };
    await writeFile(at('encoder/special_tokens_map.json'), JSON.stringify(special));
    await writeFile(at('encoder/added_tokens.json'), JSON.stringify({ fade: words.length }));
    tokenizer = await loadTokenizer(at('encoder'));
    await exportOnnx(at('encoder'), [], at('encoder-web'), { dtype: ['fp32'] });
  });

  const hiddenOf = async (ids: readonly number[], types: readonly number[]) => {
    const model = await openModel(at('encoder'));
    const rows = {
      rows: 1,
      length: ids.length,
      ids: Int32Array.from(ids),
      lengths: Int32Array.of(ids.length),
      typeIds: Int32Array.from(types),
    };
    return (await encode(runtime, model, rows)).hidden;
  };

  it('gives the sentence embeddings that its hidden states make here', async () => {
    const extract = await pipeline('feature-extraction', 'encoder-web');
    const found = (await extract(texts, { pooling: 'mean', normalize: true })).tolist() as number[][];
    for (const [i, text] of texts.entries()) {
      const { ids } = tokenizer.encodeWhole(text);
      const hidden = await hiddenOf(
        ids,
        ids.map(() => 0),
      );
      const width = hidden.length / ids.length;
      const mean = Float32Array.from({ length: width }, (_, j) =>
        ids.reduce((sum, _, row) => sum + hidden[row * width + j], 0),
      );
      const norm = Math.hypot(...mean);
      expect(
        relativeError(
          Float32Array.from(found[i]),
          mean.map((v) => v / norm),
        ),
      ).toBeLessThan(1e-4);
    }
  });

  it('tells the two texts of a pair apart, and knows tokens of files beside the tokenizer', async () => {
    const web = await AutoTokenizer.from_pretrained('encoder-web');
    const feeds = web(texts[0], { text_pair: texts[1] }) as Record<string, Tensor>;
    const { ids, typeIds } = tokenizer.encodePair(texts[0], texts[1]);
    expect(Array.from(feeds.input_ids.data as BigInt64Array, Number)).toEqual([...ids]);
    expect(Array.from(feeds.token_type_ids.data as BigInt64Array, Number)).toEqual([...typeIds]);
    expect(ids).toContain(tokenizer.vocabSize - 1);
    const model = await AutoModel.from_pretrained('encoder-web');
    const { last_hidden_state: hidden } = (await model(feeds)) as {
      last_hidden_state: { data: Float32Array };
    };
    expect(relativeError(hidden.data, await hiddenOf(ids, typeIds))).toBeLessThan(1e-4);
  });

  it('has the type that was written for a default, and no more tokens than positions', async () => {
    expect((await json(at('encoder-web/config.json')))['transformers.js_config']).toEqual({ dtype: 'fp32' });
    expect((await json(at('encoder-web/tokenizer_config.json'))).model_max_length).toBe(64);
  });
});

describe('refused, nothing left behind', () => {
  const untouched = async (name: string) => expect(await readdir(scratch)).not.toContain(name);

  it('an adapter that is in no matrix', async () => {
    const model = await loadModel('demo', { threads: 1 });
    await model.addMethod('prefix', {});
    await expect(model.exportOnnx(at('prefix'))).rejects.toThrow(
      'trains is in no matrix of the model, so it cannot be merged',
    );
    await model.close();
    await untouched('prefix');
  });

  it('frequencies that differ at every length', async () => {
    await cp('assets/base', at('dynamic-base'), { recursive: true });
    const config = await json(at('dynamic-base/config.json'));
    config.rope_scaling = { rope_type: 'dynamic', factor: 2 };
    await writeFile(at('dynamic-base/config.json'), JSON.stringify(config));
    await expect(exportOnnx(at('dynamic-base'), [], at('dynamic'))).rejects.toThrow(
      'rotary embeddings of type "dynamic" have other frequencies at every length, and cannot be exported',
    );
    await untouched('dynamic');
  });

  it('a type of model that transformers.js does not know', async () => {
    const model = await openModel('assets/base');
    const other = { ...model, config: { ...model.config, modelType: 'mixtral' } };
    await expect(writeOnnxModel(at('other'), runtime, other, undefined)).rejects.toThrow(
      'a model of type mixtral cannot be exported: transformers.js has none such, of those that are here only llama, ',
    );
    await untouched('other');
  });

  it('a weight that is not finite, and a signal', async () => {
    const model = await loadModel('demo', { threads: 1 });
    const adapter = await model.addLora({ r: 2, targetModules: ['q_proj'] });
    adapter.values.get('model.layers.3.self_attn.q_proj.lora_B')!.data[0] = Number.NaN;
    await expect(model.exportOnnx(at('nan'))).rejects.toThrow(
      /^the model cannot be exported: tensor "model\.layers\.3\.self_attn\.q_proj\.weight": \d+ of its 65536 values are NaN/,
    );
    await untouched('nan');
    model.deleteAdapter('default');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(model.exportOnnx(at('ended'), { signal })).rejects.toThrow('enough');
    await untouched('ended');
    await model.close();
  });

  it('a folder that is there, unless it is asked for and an exported model', async () => {
    await mkdir(at('full/onnx'), { recursive: true });
    await expect(exportOnnx('demo', [], at('full'))).rejects.toThrow(
      'exists already; choose another output, or replace it',
    );
    await exportOnnx('demo', [], at('full'), { overwrite: true, dtype: ['q8'] });
    expect((await readdir(at('full'))).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'onnx',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(await readdir(at('full/onnx'))).toEqual(['model_quantized.onnx']);
    await mkdir(at('mine'));
    await writeFile(at('mine/config.json'), '{}');
    await expect(exportOnnx('demo', [], at('mine'), { overwrite: true })).rejects.toThrow(
      'is no exported model folder and is not overwritten',
    );
  });
});
