/** Numbers for people. */
export { bytesText as bytes } from '../base/text.js';

/** 1,234,567 */
export function count(n: number): string {
  return n.toLocaleString('en-US');
}

/** "1 row", "2 rows". */
export function counted(n: number, noun: string): string {
  return `${count(n)} ${noun}${n === 1 ? '' : 's'}`;
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
  if (whole < 60) return `${whole} s`;
  const two = (n: number) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
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
