/** The normalizers of tokenizer.json: each changes a text before it is split. */
import * as z from 'zod';
import { toByteCharacters } from './bytes.js';
import { CHINESE, CONTROL, INERT, MARK, NONSPACING, SPACE } from './characters.js';
import { charsmapSchema } from './charsmap.js';
import { checkLength, type PartTable, partSchema } from './parts.js';
import { type Pattern, patternSchema } from './patterns.js';

export interface Normalizer {
  /**
   * @param limit how long the text may become.
   * @throws TooLong.
   */
  normalize(text: string, limit: number): string;
  /**
   * Of a text whose first `lead` units come from the first character of the whole: how many of the normalized text do.
   * Where it is left out, as many as those units alone become.
   */
  lead?(text: string, lead: number, limit: number): number;
  /** Whether it puts something before a text. */
  readonly prepends?: boolean;
  readonly patterns?: readonly Pattern[];
}

/** Units of the normalized `text` that come from its first `lead` ones. */
export function leadAfter(normalizer: Normalizer, text: string, lead: number, limit: number): number {
  if (lead === 0) return 0;
  return normalizer.lead?.(text, lead, limit) ?? normalizer.normalize(text.slice(0, lead), limit).length;
}

const map = (normalize: (text: string) => string): Normalizer => ({ normalize });
/** A part without settings. */
const plain = (normalizer: Normalizer) => z.looseObject({}).transform(() => normalizer);

/** Each character by itself: no final sigma. */
const lowercase = map((text) => {
  if (/^[\0-\x7f]*$/.test(text)) return text.toLowerCase();
  let out = '';
  for (const character of text) out += character.toLowerCase();
  return out;
});

/** Characters that the crate does not know stay as they are, and nothing is composed or ordered across them. */
function unicode(form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Normalizer {
  const inert = new RegExp(`([${INERT}])`, 'u');
  return map((text) =>
    inert.test(text)
      ? text
          .split(inert)
          .map((part, i) => (i % 2 === 1 ? part : part.normalize(form)))
          .join('')
      : text.normalize(form),
  );
}

const nfd = unicode('NFD');

const removing = (source: string) => {
  const regex = new RegExp(source, 'gu');
  return map((text) => text.replace(regex, ''));
};

const nmt = map((text) =>
  text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it removes.
    .replace(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g, '')
    .replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, ' '),
);

const bertSchema = z
  .looseObject({
    clean_text: z.boolean(),
    handle_chinese_chars: z.boolean(),
    strip_accents: z.boolean().nullish(),
    lowercase: z.boolean(),
  })
  .transform((json): Normalizer => {
    const chinese = new RegExp(`[${CHINESE}]`, 'gu');
    const spaces = new RegExp(SPACE, 'gu');
    const clean = map((text) => removing(`[${CONTROL}]`).normalize(text, 0).replace(spaces, ' '));
    const steps = [
      ...(json.clean_text ? [clean] : []),
      ...(json.handle_chinese_chars ? [map((text) => text.replace(chinese, ' $& '))] : []),
      ...((json.strip_accents ?? json.lowercase) ? [nfd, removing(`[${NONSPACING}]`)] : []),
      ...(json.lowercase ? [lowercase] : []),
    ];
    return sequence(steps);
  });

const stripSchema = z
  .looseObject({ strip_left: z.boolean(), strip_right: z.boolean() })
  .transform(({ strip_left, strip_right }): Normalizer => {
    const first = new RegExp(`^${SPACE}+`, 'u');
    const isSpace = new RegExp(`^${SPACE}$`, 'u');
    const normalize = (text: string) => {
      let end = text.length;
      // A pattern for the end would look at each blank of the text.
      if (strip_right) while (end > 0 && isSpace.test(text[end - 1])) end--;
      const kept = text.slice(0, end);
      return strip_left ? kept.replace(first, '') : kept;
    };
    return {
      normalize,
      lead(text, lead) {
        const kept = normalize(text);
        return strip_left && first.test(text) ? 0 : Math.min(lead, kept.length);
      },
    };
  });

const replaceSchema = z
  .looseObject({ pattern: patternSchema, content: z.string() })
  .transform(({ pattern, content }): Normalizer => {
    return {
      patterns: [pattern],
      normalize: (text, limit) => replaceAll(pattern, text, content, limit),
      lead(text, lead) {
        const { ends, hits } = pattern.cover(text);
        if (!hits[0]) return lead;
        // What replaces several characters counts as coming from the last of them.
        return ends[0] <= lead ? content.length : 0;
      },
    };
  });

/** `text` with `content`, as it stands, for each match. */
export function replaceAll(pattern: Pattern, text: string, content: string, limit: number): string {
  const { ends, hits } = pattern.cover(text);
  let length = 0;
  for (let i = 0; i < ends.length; i++)
    length += hits[i] ? content.length : ends[i] - (i === 0 ? 0 : ends[i - 1]);
  checkLength(length, limit);
  let out = '';
  for (let i = 0; i < ends.length; i++)
    out += hits[i] ? content : text.slice(i === 0 ? 0 : ends[i - 1], ends[i]);
  return out;
}

function sequence(normalizers: readonly Normalizer[]): Normalizer {
  return {
    prepends: normalizers.some((normalizer) => normalizer.prepends),
    patterns: normalizers.flatMap((normalizer) => normalizer.patterns ?? []),
    normalize: (text, limit) =>
      normalizers.reduce((before, normalizer) => {
        const after = normalizer.normalize(before, limit);
        checkLength(after.length, limit);
        return after;
      }, text),
    lead(text, lead, limit) {
      let [at, left] = [text, lead];
      for (const normalizer of normalizers) {
        left = leadAfter(normalizer, at, left, limit);
        at = normalizer.normalize(at, limit);
      }
      return left;
    },
  };
}

export const normalizerSchema = partSchema('normalizer', (): PartTable<Normalizer> => table);

const table: PartTable<Normalizer> = {
  BertNormalizer: bertSchema,
  Strip: stripSchema,
  StripAccents: plain(removing(`[${MARK}]`)),
  NFC: plain(unicode('NFC')),
  NFD: plain(nfd),
  NFKC: plain(unicode('NFKC')),
  NFKD: plain(unicode('NFKD')),
  Sequence: z
    .looseObject({ normalizers: z.array(normalizerSchema) })
    .transform((json) => sequence(json.normalizers)),
  Lowercase: plain(lowercase),
  Nmt: plain(nmt),
  Precompiled: z
    .looseObject({ precompiled_charsmap: charsmapSchema })
    .transform(({ precompiled_charsmap }): Normalizer => precompiled_charsmap),
  Replace: replaceSchema,
  Prepend: z.looseObject({ prepend: z.string() }).transform(
    ({ prepend }): Normalizer => ({
      prepends: true,
      normalize(text, limit) {
        if (text === '') return text;
        checkLength(prepend.length + text.length, limit);
        return prepend + text;
      },
    }),
  ),
  ByteLevel: plain(map(toByteCharacters)),
};
