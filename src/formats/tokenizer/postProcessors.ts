/** The post-processors of tokenizer.json: what is put around the ids of a text. */
import * as z from 'zod';
import { MAX_TOKEN_ID } from './model.js';
import { type PartTable, partSchema } from './parts.js';
import { byteLevelSchema } from './preTokenizers.js';

/** The ids of a text with its special tokens. */
export type PostProcessor = (ids: readonly number[]) => readonly number[];

const tokenId = z.int().min(0).max(MAX_TOKEN_ID);
const named = z.tuple([z.string(), tokenId]);

/** Of a single text both are the same; they differ in pairs and offsets, which are not used here. */
const around = z.looseObject({ sep: named, cls: named }).transform(
  ({ sep, cls }): PostProcessor =>
    (ids) => [cls[1], ...ids, sep[1]],
);

const special = z.looseObject({ SpecialToken: z.looseObject({ id: z.string() }) });
const sequence = z.looseObject({ Sequence: z.looseObject({ id: z.enum(['A', 'B']) }) });

const template = z
  .looseObject({
    single: z
      .array(z.union([special, sequence], { error: 'expected a SpecialToken or a Sequence' }))
      .max(1000),
    special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(tokenId).max(1000) })),
  })
  .transform(({ single, special_tokens }, context): PostProcessor => {
    const pieces: (readonly number[] | 'text')[] = [];
    for (const [i, piece] of single.entries()) {
      if ('Sequence' in piece) {
        // The second text of a pair is in no single one.
        if ((piece as z.infer<typeof sequence>).Sequence.id === 'A') pieces.push('text');
        else
          context.addIssue({
            code: 'custom',
            path: ['single', i],
            message: 'expected the sequence A, found B',
          });
        continue;
      }
      const { id } = (piece as z.infer<typeof special>).SpecialToken;
      if (Object.hasOwn(special_tokens, id)) pieces.push(special_tokens[id].ids);
      else
        context.addIssue({
          code: 'custom',
          path: ['single', i],
          message: `${JSON.stringify(id)} is not a token of special_tokens`,
        });
    }
    return (ids) => pieces.flatMap((piece) => (piece === 'text' ? ids : piece));
  });

export const postProcessorSchema = partSchema('post-processor', (): PartTable<PostProcessor> => table);

const table: PartTable<PostProcessor> = {
  BertProcessing: around,
  RobertaProcessing: around,
  ByteLevel: byteLevelSchema.transform((): PostProcessor => (ids) => ids),
  TemplateProcessing: template,
  Sequence: z.looseObject({ processors: z.array(postProcessorSchema) }).transform(
    ({ processors }): PostProcessor =>
      (ids) =>
        processors.reduce((before, processor) => processor(before), ids),
  ),
};
