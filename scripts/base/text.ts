/** Typographic characters and the ASCII that stands for them, so that a vocabulary of 4,096 is not spent on them. */
const PLAIN: readonly (readonly [RegExp, string])[] = [
  [/[\u2018\u2019\u201b\u02bc]/g, "'"],
  [/[\u201c\u201d\u201e]/g, '"'],
  [/[\u2013\u2012\u2010\u2011]/g, '-'],
  [/\s*[\u2014\u2015]\s*/g, '--'],
  [/\u2026/g, '...'],
  [/[\u00a0\u2002-\u200a\t]/g, ' '],
  [/\u00e6/g, 'ae'],
  [/\u00c6/g, 'Ae'],
  [/\u0153/g, 'oe'],
  [/[\u00a3]/g, 'L'],
];

/** Typographic characters as ASCII, letters without accents; whatever is left outside ASCII is dropped. */
export function toAscii(text: string): string {
  let plain = text;
  for (const [pattern, replacement] of PLAIN) plain = plain.replace(pattern, replacement);
  return plain.normalize('NFKD').replace(/[^\n\x20-\x7e]/g, '');
}

/** A text whose lines were broken at a column: blank lines part paragraphs, each becomes one line. */
export function joinWrappedLines(text: string): string {
  return toAscii(text.replace(/\r\n?/g, '\n'))
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s*\n\s*/g, ' '))
    .join('\n');
}

/** Tidies a text of one paragraph a line: no marks of emphasis, no headings, no runs of blanks, no empty lines. */
export function plainText(text: string): string {
  return text
    .replace(/[_*]|\[Footnote.*?\]/g, '')
    .split('\n')
    .map((line) => line.replace(/ {2,}/g, ' ').trim())
    .filter((line) => line.length > 0 && !isHeading(line))
    .join('\n');
}

/** A line without a lower-case word, such as "CHAPTER IV" or "BOOK ONE: 1805". */
function isHeading(line: string): boolean {
  return !/[a-z]{2}/.test(line) || /^chapter \d+\b/i.test(line);
}
