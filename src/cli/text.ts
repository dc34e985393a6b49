/** Numbers for people. */
export { bytesText as bytes, countedText as counted } from '../base/text.js';

/** Room for what a line begins with: "memory", "verdict". */
const LABEL = 10;

/** 1,234,567 */
export function count(n: number): string {
  return n.toLocaleString('en-US');
}

/** 134.5M */
export function short(n: number): string {
  return n.toLocaleString('en-US', { notation: 'compact', maximumFractionDigits: 1 });
}

/** 0.34% */
export function percent(share: number): string {
  return `${(100 * share).toPrecision(3)}%`;
}

/** 4 s, 3:20, 1:02:03 */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 1) return 'under 1 s';
  if (whole < 60) return `${whole} s`;
  const two = (n: number) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** How long something took, where a short time should not read as none: 0.4 s. */
export function elapsed(seconds: number): string {
  return seconds < 9.95 ? `${Math.max(0.1, seconds).toFixed(1)} s` : duration(seconds);
}

/** Lines of a table, columns as wide as their widest cell; a row's numbers stand on the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string[] {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? count(cell) : cell)));
  const widths = cells[0]?.map((_, i) => Math.max(...cells.map((row) => row[i].length))) ?? [];
  return cells.map((row, r) =>
    row
      .map((cell, i) => (typeof rows[r][i] === 'number' ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd(),
  );
}

/** A table where a line has room for it; otherwise a row's cells below each other, behind the names of the first row. */
export function tableOrList(rows: readonly (readonly (string | number)[])[], columns: number): string[] {
  const lines = table(rows);
  if (lines.every((line) => line.length <= columns)) return lines;
  const [head, ...others] = rows.map((row) =>
    row.map((cell) => (typeof cell === 'number' ? count(cell) : cell)),
  );
  const width = Math.max(...head.slice(1).map((name) => name.length));
  return others.flatMap(([title, ...cells]) => [
    ...fill([title], columns, ''),
    ...cells.flatMap((cell, i) =>
      cell === ''
        ? []
        : fill(`  ${head[i + 1].padEnd(width)}  ${cell}`.split(/(?<=\S) /), columns, ' '.repeat(width + 4)),
    ),
  ]);
}

/** Text in lines of so many characters at most, broken at blanks; lines behind the first are indented. */
export function wrapped(text: string, columns: number, indent = ''): string[] {
  return text.split('\n').flatMap((line) => fill(line.split(/ +/), columns, indent));
}

/** Text behind a label, in lines of so many characters at most; those behind the first stand below its text. */
export function labelled(label: string, text: string, columns: number): string[] {
  const start = label.padEnd(LABEL);
  return wrapped(text, columns - LABEL).map((line, i) => `${i === 0 ? start : ' '.repeat(LABEL)}${line}`);
}

/** Words in lines; those behind the first are indented, and those before the last end with `goesOn`. */
export function fill(words: readonly string[], columns: number, indent: string, goesOn = ''): string[] {
  const lines: string[] = [];
  let line = words[0] ?? '';
  for (const [i, word] of words.entries()) {
    if (i === 0) continue;
    const last = i === words.length - 1;
    if (line.length + 1 + word.length + (last ? 0 : goesOn.length) <= columns) {
      line += ` ${word}`;
      continue;
    }
    lines.push(line + goesOn);
    line = indent + word;
  }
  return [...lines, line];
}
