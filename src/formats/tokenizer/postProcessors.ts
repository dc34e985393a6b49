/** The post-processors of tokenizer.json: what is put around the ids of a text. */
import * as z from 'zod';
import { MAX_TOKEN_ID } from './model.js';
import { type PartTable, partSchema } from './parts.js';
import { byteLevelSchema } from './preTokenizers.js';

/** Ids, and of each which text of a pair it is of: its type. */
export interface Typed {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
}

/** One text, or the two of a pair, with their special tokens; what stays apart is put one behind the other at last. */
export type PostProcessor = (texts: readonly Typed[]) => readonly Typed[];

/** All in one. */
export function joined(parts: readonly Typed[]): Typed {
  return { ids: parts.flatMap(({ ids }) => ids), typeIds: parts.flatMap(({ typeIds }) => typeIds) };
}

const typed = (ids: readonly number[], type: number): Typed => ({ ids, typeIds: ids.map(() => type) });

const tokenId = z.int().min(0).max(MAX_TOKEN_ID);
const named = z.tuple([z.string(), tokenId]);
const aroundKeys = z.looseObject({ sep: named, cls: named });

/** [CLS] A [SEP], and B [SEP] of the second type. */
const bert = aroundKeys.transform(
  ({ sep: [, sep], cls: [, cls] }): PostProcessor =>
    ([a, b]) => [typed([cls, ...a.ids, sep], 0), ...(b ? [typed([...b.ids, sep], 1)] : [])],
);

/** <s> A </s>, and </s> B </s>, all of one type. */
const roberta = aroundKeys.transform(
  ({ sep: [, sep], cls: [, cls] }): PostProcessor =>
    ([a, b]) => [typed([cls, ...a.ids, sep], 0), ...(b ? [typed([sep, ...b.ids, sep], 0)] : [])],
);

const type = z.int().min(0).max(MAX_TOKEN_ID).default(0);
const special = z.looseObject({ SpecialToken: z.looseObject({ id: z.string(), type_id: type }) });
const sequence = z.looseObject({ Sequence: z.looseObject({ id: z.enum(['A', 'B']), type_id: type }) });
const pieces = z
  .array(z.union([special, sequence], { error: 'expected a SpecialToken or a Sequence' }))
  .max(1000);
type Piece = z.infer<typeof pieces>[number];

const template = z
  .looseObject({
    single: pieces,
    pair: pieces.default([{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }]),
    special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(tokenId).max(1000) })),
  })
  .transform(({ single, pair, special_tokens: tokens }, context): PostProcessor => {
    const refuse = (path: (string | number)[], message: string) =>
      context.addIssue({ code: 'custom', path, message });
    const check = (key: 'single' | 'pair', list: readonly Piece[]) => {
      for (const [i, piece] of list.entries()) {
        if ('Sequence' in piece) {
          // The second text of a pair is in no single one.
          const { id } = (piece as z.infer<typeof sequence>).Sequence;
          if (key === 'single' && id === 'B') refuse([key, i], 'expected the sequence A, found B');
          continue;
        }
        const { id } = (piece as z.infer<typeof special>).SpecialToken;
        if (!Object.hasOwn(tokens, id))
          refuse([key, i], `${JSON.stringify(id)} is not a token of special_tokens`);
      }
    };
    check('single', single);
    check('pair', pair);
    return ([a, b]) =>
      (b ? pair : single).map((piece) => {
        if ('Sequence' in piece) {
          const { id, type_id } = (piece as z.infer<typeof sequence>).Sequence;
          return typed((id === 'A' ? a : b!).ids, type_id);
        }
        const { id, type_id } = (piece as z.infer<typeof special>).SpecialToken;
        return typed(tokens[id].ids, type_id);
      });
  });

export const postProcessorSchema = partSchema('post-processor', (): PartTable<PostProcessor> => table);

const table: PartTable<PostProcessor> = {
  BertProcessing: bert,
  RobertaProcessing: roberta,
  ByteLevel: byteLevelSchema.transform((): PostProcessor => (texts) => texts),
  TemplateProcessing: template,
  Sequence: z.looseObject({ processors: z.array(postProcessorSchema) }).transform(
    ({ processors }): PostProcessor =>
      (texts) =>
        // Of a pair, what one put around it is one text for the next.
        processors.reduce((before, processor) => {
          const after = processor(before);
          return after.length > texts.length ? [joined(after)] : after;
        }, texts),
  ),
};
