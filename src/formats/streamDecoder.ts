import type { Tokenizer } from './tokenizerCore.js';

export interface StreamOptions {
  /** Default true. */
  skipSpecialTokens?: boolean;
  /** The ids that the stream continues, so that a first token keeps the blank before its word. */
  after?: ArrayLike<number>;
}

/** What an incomplete UTF-8 sequence decodes to. */
const REPLACEMENT = '\ufffd';

/** Text of tokens that come one by one: each piece is whole characters, and all pieces make the whole text. */
export class StreamDecoder {
  /** The tokens that are decoded together: those not yet finished, behind one that is. */
  private window: number[] = [];
  /** How much of the window's text was given out. */
  private given = 0;
  private readonly skips: boolean;

  constructor(
    private readonly tokenizer: Tokenizer,
    { skipSpecialTokens = true, after = [] }: StreamOptions = {},
  ) {
    this.skips = skipSpecialTokens;
    const before = Array.from(after).filter((id) => !this.ignores(id));
    let start = Math.max(0, before.length - CONTEXT);
    while (start > 0 && tokenizer.isOpen(before[start])) start--;
    this.window = before.slice(start);
    this.settle();
  }

  /**
   * The text that is now certain; '' while a character is incomplete, or while bytes follow one another that are one
   * text or none (byte fallback).
   */
  push(id: number): string {
    if (this.ignores(id)) return '';
    this.window.push(id);
    if (this.tokenizer.isOpen(id)) return '';
    const text = this.tokenizer.decode(this.window);
    // Only the last character can still change: what is incomplete before it was given up by the decoder.
    const pending = text.endsWith(REPLACEMENT);
    const end = Math.max(this.given, pending ? text.length - 1 : text.length);
    const piece = text.slice(this.given, end);
    this.given = end;
    if (!pending) this.settle();
    return piece;
  }

  /** What is left at the end: an incomplete character as U+FFFD. The decoder can then start on a new text. */
  flush(): string {
    const rest = this.tokenizer.decode(this.window).slice(this.given);
    this.window = [];
    this.given = 0;
    return rest;
  }

  private ignores(id: number): boolean {
    return this.tokenizer.tokenOf(id) === undefined || (this.skips && this.tokenizer.isSpecial(id));
  }

  /**
   * Everything was given out: keeps as context the last token that has a text of its own, because decoders
   * strip the blank of a text's first token; and the one before it, so that what follows is compared with the
   * whole of that text.
   */
  private settle(): void {
    let found = false;
    for (let start = this.window.length - 1; start >= 0; start--) {
      if (start > 0 && this.tokenizer.isOpen(this.window[start])) continue;
      const kept = this.window.slice(start);
      const text = this.tokenizer.decode(kept);
      if (text === '' && start > 0) continue;
      if (!found && start > 0) {
        found = true;
        continue;
      }
      this.window = kept;
      this.given = text.length;
      return;
    }
  }
}

/** Tokens of the text before that the decoder looks at. */
const CONTEXT = 8;
