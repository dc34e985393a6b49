/** Tokens that are found in a text before anything else is done to it, as the Rust library finds them. */
import * as z from 'zod';
import { SPACE, WORD } from './characters.js';
import { MAX_TOKEN_ID } from './model.js';

export const addedTokenSchema = z.looseObject({
  content: z.string(),
  single_word: z.boolean(),
  lstrip: z.boolean(),
  rstrip: z.boolean(),
  normalized: z.boolean(),
  special: z.boolean(),
});
/** A token and how it is found: what it takes from its sides, and whether in the text before or after the normalizer. */
export type AddedToken = z.infer<typeof addedTokenSchema>;

export const addedTokensSchema = z.array(addedTokenSchema.extend({ id: z.int().min(0).max(MAX_TOKEN_ID) }));

/** A part of a text: as it stands, or a token. */
export interface Extract {
  readonly start: number;
  readonly end: number;
  /** Undefined for text between tokens. */
  readonly id: number | undefined;
}

/** Added tokens that cannot be told apart. */
export class AmbiguousTokens extends Error {}

interface Node {
  readonly next: Map<number, Node>;
  found?: { id: number; token: AddedToken };
}

const endsWithSpace = new RegExp(`${SPACE}$`, 'u');
const startsWithSpaces = new RegExp(`^${SPACE}*`, 'u');
const endsWithWord = new RegExp(`[${WORD}]$`, 'u');
const startsWithWord = new RegExp(`^[${WORD}]`, 'u');

/** Finds tokens in a text: the leftmost first, of those that begin at one place the longest. */
export class TokenFinder {
  private readonly root: Node = { next: new Map() };
  /** Where any token can begin. */
  private readonly first: RegExp | undefined;

  /**
   * @param tokens what is looked for, with its id and the token it stands for.
   * @throws AmbiguousTokens where two are spelled the same, or one is empty: the Rust library refuses those.
   */
  constructor(tokens: readonly { text: string; id: number; token: AddedToken }[]) {
    for (const { text, id, token } of tokens) {
      if (text === '')
        throw new AmbiguousTokens(`the added token ${JSON.stringify(token.content)} becomes empty`);
      let node = this.root;
      for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i);
        let next = node.next.get(unit);
        if (next === undefined) {
          next = { next: new Map() };
          node.next.set(unit, next);
        }
        node = next;
      }
      if (node.found !== undefined) {
        const both = [node.found.token.content, token.content].map((content) => JSON.stringify(content));
        throw new AmbiguousTokens(`the added tokens ${both.join(' and ')} become the same`);
      }
      node.found = { id, token };
    }
    const units = [...this.root.next.keys()].map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`);
    this.first = units.length === 0 ? undefined : new RegExp(`[${units.join('')}]`, 'g');
  }

  /** `text` in order, without empty parts. */
  find(text: string): readonly Extract[] {
    if (text === '') return [];
    const parts: Extract[] = [];
    let done = 0;
    for (let from = 0; this.first !== undefined && from < text.length; ) {
      this.first.lastIndex = from;
      const at = this.first.exec(text)?.index;
      if (at === undefined) break;
      const match = this.longestAt(text, at);
      if (match === undefined) {
        from = at + 1;
        continue;
      }
      from = match.end;
      const { token, id } = match;
      if (token.single_word && !standsAlone(text, at, match.end)) continue;
      const start = token.lstrip ? Math.max(done, beforeSpaces(text, at)) : at;
      const end = token.rstrip
        ? match.end + startsWithSpaces.exec(text.slice(match.end))![0].length
        : match.end;
      if (done < start) parts.push({ start: done, end: start, id: undefined });
      parts.push({ start, end, id });
      done = end;
    }
    if (done < text.length) parts.push({ start: done, end: text.length, id: undefined });
    return parts;
  }

  private longestAt(text: string, start: number): { id: number; token: AddedToken; end: number } | undefined {
    let best: { id: number; token: AddedToken; end: number } | undefined;
    let node: Node | undefined = this.root;
    for (let at = start; at < text.length; ) {
      node = node.next.get(text.charCodeAt(at++));
      if (node === undefined) break;
      if (node.found !== undefined) best = { ...node.found, end: at };
    }
    return best;
  }
}

function standsAlone(text: string, start: number, end: number): boolean {
  return !endsWithWord.test(lastCharacter(text, start)) && !startsWithWord.test(text.slice(end, end + 2));
}

/** The character before `end`. */
function lastCharacter(text: string, end: number): string {
  const pair = /[\udc00-\udfff]/.test(text[end - 1] ?? '');
  return text.slice(Math.max(0, end - (pair ? 2 : 1)), end);
}

function beforeSpaces(text: string, end: number): number {
  let start = end;
  while (start > 0 && endsWithSpace.test(text[start - 1])) start--;
  return start;
}
