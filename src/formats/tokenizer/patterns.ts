/**
 * Patterns of tokenizer.json. A `String` is found as it stands. A `Regex` is Oniguruma's: it is translated to
 * JavaScript by oniguruma-to-es in its strict mode, and refused where that cannot be exact.
 */
import { toRegExpDetails } from 'oniguruma-to-es';
import * as z from 'zod';
import { messageOf } from '../../base/errors.js';
import type { Cover } from './pieces.js';

export interface Pattern {
  /** The matches in a text, from left to right, and what lies between them. */
  cover(text: string): Cover;
  /** The pieces of a text when each match and each gap is one; may leave out empty ones. */
  isolate(text: string): readonly string[];
  /** At most how many steps a search through `length` units may take; Infinity when it may backtrack for ever. */
  steps(length: number): number;
}

const wholeText = (text: string): Cover => ({ ends: [text.length], hits: [false] });

/** Finds `wanted` as it stands; the empty text is found before each character and at the end, as a regex finds it. */
export function literalPattern(wanted: string): Pattern {
  return new RegexPattern(wanted.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gu');
}

/** A pattern of JavaScript, for what the format itself fixes. `source` matches no empty text. */
export function fixedPattern(source: string): Pattern {
  return new RegexPattern(source, 'gu');
}

class RegexPattern implements Pattern {
  private readonly regex: RegExp;
  private readonly degree: number;

  constructor(source: string, flags: string) {
    this.regex = new RegExp(source, flags);
    this.degree = degreeOf(source);
  }

  cover(text: string): Cover {
    if (text === '') return wholeText(text);
    const ends: number[] = [];
    const hits: boolean[] = [];
    const { regex } = this;
    let done = 0;
    let last = -1;
    for (let from = 0; from <= text.length; ) {
      regex.lastIndex = from;
      const found = regex.exec(text);
      if (found === null) break;
      const start = found.index;
      // V8 looks for an empty match between the halves of a character too.
      if (insideCharacter(text, start)) {
        from = start + 1;
        continue;
      }
      const end = start + found[0].length;
      // An empty match directly behind a match counts for nothing: the search goes on one character further.
      if (start === end && end === last) {
        from += (text.codePointAt(from) ?? 0) > 0xffff ? 2 : 1;
        continue;
      }
      if (start > done) add(start, false);
      add(end, true);
      done = end;
      last = end;
      from = end;
    }
    if (done < text.length) add(text.length, false);
    return { ends, hits };

    function add(end: number, hit: boolean) {
      ends.push(end);
      hits.push(hit);
    }
  }

  isolate(text: string): readonly string[] {
    // Most patterns match the whole text in pieces, which the engine gives at once.
    const found = text.match(this.regex) ?? [];
    let length = 0;
    for (const piece of found) length += piece.length;
    if (length === text.length) return found;
    const { ends } = this.cover(text);
    return ends.map((end, i) => text.slice(i === 0 ? 0 : ends[i - 1], end));
  }

  steps(length: number): number {
    return length ** (this.degree + 1);
  }
}

function insideCharacter(text: string, at: number): boolean {
  return at > 0 && (text.codePointAt(at - 1) ?? 0) > 0xffff;
}

/**
 * How often a search may come back to the same character, as a power of the length: at most once for each repetition
 * without end in one alternative, when no repeated group and no back reference is there. Infinity otherwise.
 */
function degreeOf(source: string): number {
  let degree = 0;
  let repeats = 0;
  let depth = 0;
  let classes = 0;
  for (let i = 0; i < source.length; i++) {
    const c = source[i];
    if (c === '\\') {
      i++;
      if (classes === 0 && /[1-9k]/.test(source[i])) return Infinity;
      if (/[pPu]/.test(source[i]) && source[i + 1] === '{') i = source.indexOf('}', i);
    } else if (c === '[') classes++;
    else if (c === ']') classes--;
    else if (classes > 0) continue;
    else if (c === '(') depth++;
    else if (c === ')') {
      depth--;
      if (/^(?:[*+]|\{\d*,?\d*\})/.test(source.slice(i + 1, i + 24))) return Infinity;
    } else if (c === '*' || c === '+' || c === '{') repeats++;
    else if (c === '|' && depth === 0) repeats = 0;
    degree = Math.max(degree, repeats);
  }
  return degree;
}

/** Oniguruma's \w: Unicode's in a character class, elsewhere also what Latin-1 had. */
const WORD_IN_CLASS = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}';
const WORD = `${WORD_IN_CLASS}²³¹¼½¾`;

/** Two letters that Oniguruma takes for one character (ﬁ, ß) when case does not count, and JavaScript does not. */
const FOLDS_TO_ONE = /s[st]|f[fil]|[^\0-\x7f]/iu;

/**
 * `source` for oniguruma-to-es: \w and \b spelled out.
 * @returns the name of what cannot be translated exactly as `refused`.
 */
function prepared(source: string): { pattern: string } | { refused: string } {
  let pattern = '';
  let classes = 0;
  for (let i = 0; i < source.length; i++) {
    const c = source[i];
    if (c !== '\\') {
      if (c === '[') classes++;
      else if (c === ']' && classes > 0 && !/\[\^?$/.test(pattern)) classes--;
      pattern += c;
      continue;
    }
    const escaped = source[++i] ?? '';
    if (escaped === 'w') pattern += `[${classes === 0 ? WORD : WORD_IN_CLASS}]`;
    else if (escaped === 'W') pattern += `[^${classes === 0 ? WORD : WORD_IN_CLASS}]`;
    else if (classes === 0 && escaped === 'b')
      pattern += `(?:(?<=[${WORD}])(?![${WORD}])|(?<![${WORD}])(?=[${WORD}]))`;
    else if (classes === 0 && escaped === 'B')
      pattern += `(?:(?<=[${WORD}])(?=[${WORD}])|(?<![${WORD}])(?![${WORD}]))`;
    else if (classes === 0 && /[GKXyY]/.test(escaped)) return { refused: `\\${escaped}` };
    else pattern += `\\${escaped}`;
  }
  if (/\[:\^?word|\\[pP]\{\^?word/i.test(source)) return { refused: 'the class "word"' };
  if (/\(\?[a-z]*i/.test(source) && FOLDS_TO_ONE.test(source))
    return { refused: '(?i) with characters that fold into one' };
  return { pattern };
}

/** Far longer than any pattern of a tokenizer. */
const MAX_PATTERN = 1 << 16;

const regexSchema = z
  .string()
  .max(MAX_PATTERN)
  .transform((source, context): Pattern => {
    const ready = prepared(source);
    try {
      if ('refused' in ready) throw new Error(`${ready.refused} is not supported`);
      const { pattern, flags } = toRegExpDetails(ready.pattern, {
        accuracy: 'strict',
        avoidSubclass: true,
        target: 'ES2024',
      });
      return new RegexPattern(pattern, `${flags}g`);
    } catch (error) {
      context.addIssue({
        code: 'custom',
        message: `the pattern ${JSON.stringify(source)} cannot be used: ${messageOf(error)}`,
      });
      return z.NEVER;
    }
  });

/** `{"String": …}` or `{"Regex": …}`. */
export const patternSchema = z
  .union([z.strictObject({ String: z.string().max(MAX_PATTERN) }), z.strictObject({ Regex: z.string() })], {
    error: 'expected {"String": text} or {"Regex": text}',
  })
  .transform((json, context): Pattern => {
    if ('String' in json) return literalPattern(json.String);
    const result = regexSchema.safeParse(json.Regex);
    if (result.success) return result.data;
    for (const issue of result.error.issues)
      context.addIssue({ code: 'custom', path: ['Regex'], message: issue.message });
    return z.NEVER;
  });
