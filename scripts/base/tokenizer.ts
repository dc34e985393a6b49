import { join } from 'node:path';
import { writeFileAtomic } from '../../src/formats/io/write.js';
import { loadTokenizer } from '../../src/formats/tokenizer.js';
import { byteAlphabet, countWords, learnMerges } from './bpe.js';
import { cards } from './cards.js';
import { END_OF_TEXT, readDocuments } from './corpus.js';
import { CARD_TOKENS, INIT_FOLDER, TRAIN_TEXT, TRAIN_TOKENS, VALID_TEXT, VALID_TOKENS } from './paths.js';
import { MAX_POSITIONS, VOCAB_SIZE } from './shape.js';

const SPECIAL_TOKENS = [END_OF_TEXT, '<|im_start|>', '<|im_end|>'];
const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** Trains the tokenizer on train.txt and writes tokenizer.json and tokenizer_config.json. */
export async function writeTokenizer(): Promise<void> {
  const alphabet = byteAlphabet();
  const merges = learnMerges(
    countWords(await readDocuments(TRAIN_TEXT)),
    VOCAB_SIZE - SPECIAL_TOKENS.length - alphabet.length,
  );
  const tokens = [...SPECIAL_TOKENS, ...[...alphabet].sort(), ...merges.map((pair) => pair.join(''))];
  const special = (content: string, id: number) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map(special),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel],
    },
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    add_prefix_space: false,
    clean_up_tokenization_spaces: false,
    model_max_length: MAX_POSITIONS,
    bos_token: END_OF_TEXT,
    eos_token: END_OF_TEXT,
    pad_token: END_OF_TEXT,
    unk_token: END_OF_TEXT,
    additional_special_tokens: SPECIAL_TOKENS.slice(1),
    added_tokens_decoder: Object.fromEntries(
      SPECIAL_TOKENS.map((content, id) => {
        const { id: _, ...token } = special(content, id);
        return [id, token];
      }),
    ),
    chat_template: CHAT_TEMPLATE,
  };
  await writeFileAtomic(join(INIT_FOLDER, 'tokenizer.json'), `${JSON.stringify(tokenizer)}\n`);
  await writeFileAtomic(join(INIT_FOLDER, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

const CARD_SEED = 3;

/** Encodes the texts and the cards into streams of unsigned 16-bit ids, a document's end marked by <|endoftext|>. */
export async function writeTokens(): Promise<void> {
  const tokenizer = await loadTokenizer(INIT_FOLDER);
  const train = await readDocuments(TRAIN_TEXT);
  for (const [documents, path] of [
    [train, TRAIN_TOKENS],
    [await readDocuments(VALID_TEXT), VALID_TOKENS],
    [cards(train, CARD_SEED), CARD_TOKENS],
  ] as const) {
    const ids: number[] = [];
    for (const text of documents) {
      for (const id of tokenizer.encode(text)) ids.push(id);
      ids.push(0);
    }
    const chars = documents.reduce((sum, text) => sum + text.length, 0);
    console.log(`${path}: ${ids.length} tokens, ${(chars / ids.length).toFixed(2)} characters each`);
    await writeFileAtomic(path, new Uint8Array(Uint16Array.from(ids).buffer));
  }
}
