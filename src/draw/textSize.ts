/** How much room text takes, estimated, since there is no page to ask. */

/** Widths of the characters from space to ~ in hundredths of the size: those of DejaVu Sans, which is a wide face. */
const WIDTHS = [
  32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34,
  34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73,
  68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63,
  63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
];
const OTHER = 70;
/** Chinese, Japanese and Korean letters, and pictures, are as wide as high. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\u{1f000}-\u{3fffd}]/u;
const COMBINING = /\p{M}/u;

/** Pixels that a line of text is wide, in letters of `size` pixels. */
export function textWidth(text: string, size: number): number {
  let sum = 0;
  for (const letter of text) {
    const known = WIDTHS[letter.codePointAt(0)! - 32];
    sum += known ?? (COMBINING.test(letter) ? 0 : WIDE.test(letter) ? 100 : OTHER);
  }
  return (sum * size) / 100;
}

/** The text, cut with an ellipsis in its middle where it is wider than `room`: names of one series differ at their ends. */
export function clipped(text: string, room: number, size: number): string {
  if (textWidth(text, size) <= room) return text;
  const letters = [...text];
  let kept = letters.length - 1;
  const cut = () =>
    `${letters.slice(0, Math.floor(kept / 2)).join('')}…${letters.slice(letters.length - Math.ceil(kept / 2)).join('')}`;
  while (kept > 2 && textWidth(cut(), size) > room) kept--;
  return cut();
}

/** The text in lines of at most `room` pixels, at most `most` of them; what is left over ends in an ellipsis. */
export function wrappedText(text: string, room: number, size: number, most: number): string[] {
  const lines: string[] = [];
  let line = '';
  const words = text.split(/\s+/).filter((word) => word !== '');
  for (const [i, word] of words.entries()) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (textWidth(longer, size) <= room) {
      line = longer;
      continue;
    }
    if (lines.length === most - 1) {
      lines.push(ended([line, ...words.slice(i)].filter((one) => one !== '').join(' '), room, size));
      return lines;
    }
    if (line !== '') lines.push(line);
    line = lines.length === most - 1 ? ended(word, room, size) : clipped(word, room, size);
  }
  if (line !== '') lines.push(line);
  return lines;
}

function ended(text: string, room: number, size: number): string {
  if (textWidth(text, size) <= room) return text;
  const letters = [...text];
  while (letters.length > 1 && textWidth(`${letters.join('')}…`, size) > room) letters.pop();
  return `${letters.join('').trimEnd()}…`;
}
