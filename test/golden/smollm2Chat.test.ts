/** The tokenizer and chat template of the real SmolLM2-135M-Instruct, out of the GGUF file's metadata. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { renderChat } from '../../src/formats/chat.js';
import { readGguf } from '../../src/formats/gguf/reader.js';
import { tokenizerOf } from '../../src/formats/gguf/tokenizer.js';
import { StreamDecoder } from '../../src/formats/streamDecoder.js';
import { Tokenizer, tokenizerConfigSchema, tokenizerJsonSchema } from '../../src/formats/tokenizerCore.js';
import { encodeRows } from '../../src/train/data/encode.js';
import { TEXT_FORMS } from '../../src/train/data/forms.js';
import { rowsFrom } from '../../src/train/data/rows.js';

const models = process.env.LOWRANK_MODELS ?? fileURLToPath(new URL('../../.cache/models', import.meta.url));
const path = join(models, 'SmolLM2-135M-Instruct.Q4_1.gguf');

const messages = [
  { role: 'user', content: 'Name a colour. 👋🏽' },
  { role: 'assistant', content: 'Blue — 家.' },
];
/** transformers 5.23: apply_chat_template and the Rust tokenizer, both from the same file. */
const TEXT =
  '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' +
  '<|im_start|>user\nName a colour. 👋🏽<|im_end|>\n<|im_start|>assistant\nBlue — 家.<|im_end|>\n';
const PROMPT_IDS = [
  1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2,
  198, 1, 4093, 198, 5820, 253, 7302, 30, 15107, 235, 229, 10813, 233, 138, 2, 198, 1, 520, 9531, 198,
];
const ANSWER_IDS = [23390, 1841, 13223, 123, 131, 30, 2];

// In CI the model has to be there: scripts/fetch_models.py.
describe.skipIf(!existsSync(path) && process.env.CI !== 'true')(
  'SmolLM2 [needs scripts/fetch_models.py]',
  () => {
    let tokenizer: Tokenizer;
    beforeAll(async () => {
      const files = tokenizerOf(await readGguf(path));
      tokenizer = new Tokenizer({
        tokenizer: tokenizerJsonSchema.parse(files.tokenizer),
        config: tokenizerConfigSchema.parse(files.config),
        place: path,
      });
    });

    it('knows its special tokens', () => {
      const { vocabSize, bosId, eosId, eosIds, padId } = tokenizer;
      expect({ vocabSize, bosId, eosId, eosIds, padId }).toEqual({
        vocabSize: 49152,
        bosId: 1,
        eosId: 2,
        eosIds: [2],
        padId: 2,
      });
    });

    it('renders and encodes a chat as transformers does, default system prompt included', () => {
      const text = renderChat(tokenizer.chatTemplate!, messages, tokenizer.texts());
      expect(text).toBe(TEXT);
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual([
        ...PROMPT_IDS,
        ...ANSWER_IDS,
        198,
      ]);
    });

    it('learns the answer behind the prompt that generation starts from', async () => {
      const { examples } = await encodeRows(rowsFrom([{ messages }], TEXT_FORMS), tokenizer, {
        maxLength: 512,
      });
      expect([...examples[0].ids]).toEqual([...PROMPT_IDS, ...ANSWER_IDS]);
      expect([...examples[0].supervised]).toEqual([...PROMPT_IDS.map(() => 0), ...ANSWER_IDS.map(() => 1)]);
    });

    it('streams characters that are many tokens', () => {
      const decoder = new StreamDecoder(tokenizer, { after: PROMPT_IDS });
      const pieces = ANSWER_IDS.map((id) => decoder.push(id));
      expect(pieces).toEqual(['Blue', ' —', ' ', '', '家', '.', '']);
      expect(decoder.flush()).toBe('');
    });
  },
);
