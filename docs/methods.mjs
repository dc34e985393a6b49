// Rewrites the table in docs/methods.md from the table of methods, or with --check only compares:
//   npm run build && node docs/methods.mjs [--check]
import { readFileSync, writeFileSync } from 'node:fs';
import { methodRows } from '../dist/api/methods.js';

const page = new URL('./methods.md', import.meta.url);

const head = [
  '`--method`',
  'what',
  'parameters that train',
  'a token costs more, unmerged',
  'merges',
  'PEFT loads it as',
];
const rows = methodRows().map(({ name, title, paper, parameters, inference, merges, peft }) => {
  const [where, id] = paper.split(':');
  const at = { arXiv: 'https://arxiv.org/abs/', OpenReview: 'https://openreview.net/forum?id=' }[where];
  const link = `[${title}](${at}${id})`;
  return [`\`${name}\``, link, parameters, inference, merges ? 'yes' : 'no', peft ?? 'nothing'];
});
const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |\n`);

/** Without the blanks and dashes by which the formatter aligns a table. */
function unaligned(text) {
  return text.replace(/ +\|/g, ' |').replace(/-{3,}/g, '---');
}

const before = readFileSync(page, 'utf8');
const after = before.replace(/(?:^\|.*\n)+/m, lines.join(''));
if (unaligned(before) === unaligned(after)) console.log('docs/methods.md is as the table of methods');
else if (process.argv.includes('--check')) {
  console.error('docs/methods.md tells another table of methods; run node docs/methods.mjs');
  process.exitCode = 1;
} else {
  writeFileSync(page, after);
  console.log('docs/methods.md was rewritten');
}
