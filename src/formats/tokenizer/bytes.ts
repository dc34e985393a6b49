/** The alphabet of byte-level tokenizers: one printable character for each byte (GPT-2's bytes_to_unicode). */

const printable = (byte: number) =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;

/** By byte. */
const CHARACTERS: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

/** By UTF-16 unit: the byte, or -1. */
const BYTES: Int16Array = (() => {
  const bytes = new Int16Array(0x180).fill(-1);
  for (const [byte, character] of CHARACTERS.entries()) bytes[character.charCodeAt(0)] = byte;
  return bytes;
})();

/** The UTF-8 bytes of `text`, each as its character. */
export function toByteCharacters(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) out += CHARACTERS[unit];
    else if (unit < 0x800) out += CHARACTERS[0xc0 | (unit >> 6)] + CHARACTERS[0x80 | (unit & 0x3f)];
    else {
      const point = text.codePointAt(i)!;
      if (point > 0xffff) {
        i++;
        out += CHARACTERS[0xf0 | (point >> 18)] + CHARACTERS[0x80 | ((point >> 12) & 0x3f)];
      } else out += CHARACTERS[0xe0 | (point >> 12)];
      out += CHARACTERS[0x80 | ((point >> 6) & 0x3f)] + CHARACTERS[0x80 | (point & 0x3f)];
    }
  }
  return out;
}

/** Appends the bytes that `token` spells to `bytes`; false when it has a character outside the alphabet. */
export function pushBytes(bytes: number[], token: string): boolean {
  const before = bytes.length;
  for (let i = 0; i < token.length; i++) {
    const unit = token.charCodeAt(i);
    const byte = unit < BYTES.length ? BYTES[unit] : -1;
    if (byte < 0) {
      bytes.length = before;
      return false;
    }
    bytes.push(byte);
  }
  return true;
}
