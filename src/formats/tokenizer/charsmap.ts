/**
 * SentencePiece's compiled rules of normalization: a double array of byte sequences (Darts), and behind it what each
 * becomes, ended by a zero.
 */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkLength } from './parts.js';

const damaged = () => new UserError('the precompiled_charsmap of the tokenizer is damaged');

/** Sequences of more bytes are looked at character by character. */
const MAX_SEQUENCE_BYTES = 5;

class Charsmap {
  private readonly units: Uint32Array;
  private readonly texts: Uint8Array;
  private readonly known = new Map<string, string | undefined>();
  private readonly graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length < 4 ? -1 : view.getUint32(0, true);
    if (size < 4 || size % 4 !== 0 || 4 + size > bytes.length) throw damaged();
    this.units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.texts = bytes.subarray(4 + size);
  }

  normalize(text: string, limit: number): string {
    let out = '';
    const add = (piece: string) => {
      out += piece;
      checkLength(out.length, limit);
    };
    // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is all up to 7f. A grapheme of two is only \r\n.
    const simple = /^[\0-\x0c\x0e-\x7f]*$/.test(text);
    for (const grapheme of simple ? text : this.clusters(text)) {
      const whole = this.becomes(grapheme);
      if (whole !== undefined) add(whole);
      else if (grapheme.length === 1) add(grapheme);
      else for (const character of grapheme) add(this.becomes(character) ?? character);
    }
    return out;
  }

  private *clusters(text: string): Iterable<string> {
    for (const { segment } of this.graphemes.segment(text)) yield segment;
  }

  /** What a sequence becomes; undefined when no rule is about it. */
  private becomes(sequence: string): string | undefined {
    if (this.known.has(sequence)) return this.known.get(sequence);
    const bytes = new TextEncoder().encode(sequence);
    const result = bytes.length > MAX_SEQUENCE_BYTES ? undefined : this.find(bytes);
    if (this.known.size < MAX_KNOWN) this.known.set(sequence, result);
    return result;
  }

  /** By the shortest rule that `key` begins with. */
  private find(key: Uint8Array): string | undefined {
    let node = offsetOf(this.unit(0));
    for (const byte of key) {
      if (byte === 0) break;
      node ^= byte;
      const unit = this.unit(node);
      if ((unit & LABEL) >>> 0 !== byte) return undefined;
      node ^= offsetOf(unit);
      if ((unit >>> 8) & 1) {
        const start = this.unit(node) & 0x7fffffff;
        if (start > this.texts.length) throw damaged();
        const end = this.texts.indexOf(0, start);
        return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
          this.texts.subarray(start, end < 0 ? undefined : end),
        );
      }
    }
    return undefined;
  }

  private unit(at: number): number {
    if (at >>> 0 >= this.units.length) throw damaged();
    return this.units[at];
  }
}

/** Of a unit of the double array. */
const LABEL = 0x800000ff;
const offsetOf = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);

const MAX_KNOWN = 1 << 14;

/** Base64 of the rules. */
export const charsmapSchema = z.base64().transform((text, context): Charsmap => {
  try {
    return new Charsmap(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  } catch {
    context.addIssue({ code: 'custom', message: 'expected the compiled rules of SentencePiece in base64' });
    return z.NEVER;
  }
});
