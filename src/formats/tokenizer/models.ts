/** The models of tokenizer.json: each makes token ids of one piece of text. */
import * as z from 'zod';
import { bpeSchema } from './bpe.js';
import type { Model } from './model.js';
import { type PartTable, partSchema } from './parts.js';
import { unigramSchema } from './unigram.js';
import { wordLevelSchema, wordPieceSchema } from './words.js';

const table: PartTable<Model> = {
  BPE: bpeSchema,
  WordPiece: wordPieceSchema,
  WordLevel: wordLevelSchema,
  Unigram: unigramSchema,
};

/** Old files have no `type`: the other keys tell. */
function typed(json: unknown): unknown {
  if (typeof json !== 'object' || json === null || 'type' in json) return json;
  if ('merges' in json) return { type: 'BPE', ...json };
  if ('max_input_chars_per_word' in json) return { type: 'WordPiece', ...json };
  if ('unk_id' in json) return { type: 'Unigram', ...json };
  return 'unk_token' in json ? { type: 'WordLevel', ...json } : json;
}

export const modelSchema = z.preprocess(
  typed,
  partSchema('model', () => table),
);
