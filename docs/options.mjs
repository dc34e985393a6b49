// Rewrites the tables of options in docs/cli.md from the help of the built commands, or with --check only compares:
//   npm run build && node docs/options.mjs [--check]
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const page = new URL('./cli.md', import.meta.url);
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** The table of a help text's options, --help left out. */
function tableOf(text) {
  const options = text.replace(/\n {4,}(?=\S)/g, ' ').matchAll(/^ {2}(--\S+(?: <\S+>)?) +(.*)$/gm);
  const rows = [...options].map(([, flag, about]) => {
    const [, what, fallback = ''] = /^(.*?)(?: \(default: (.*)\))?$/.exec(about);
    return [`\`${flag}\``, what, fallback].map((cell) => cell.replaceAll('|', '\\|'));
  });
  const table = [['option', 'what', 'default'], ['---', '---', '---'], ...rows];
  return table.map((cells) => `| ${cells.join(' | ')} |\n`).join('');
}

function help(...command) {
  return execFileSync(process.execPath, [main, ...command, '--help'], { encoding: 'utf8' });
}

/** The page with the table of each command's section replaced. Throws where a command has no section. */
function withOptions(text) {
  const missing = new Set([...help().matchAll(/^ {2}(\w+) \[options\]/gm)].map(([, command]) => command));
  const page = text.replace(/^(### (\w+)\n[^#|]*)(?:\|.*\n)+/gm, (_, head, command) => {
    missing.delete(command);
    return head + tableOf(help(command));
  });
  if (missing.size > 0) throw new Error(`docs/cli.md has no section "### ${[...missing].join(', ')}"`);
  return page;
}

/** Without the blanks and dashes by which the formatter aligns a table. */
function unaligned(text) {
  return text.replace(/ +\|/g, ' |').replace(/-{3,}/g, '---');
}

const before = readFileSync(page, 'utf8');
const after = withOptions(before);
if (unaligned(before) === unaligned(after)) console.log('docs/cli.md is as the help');
else if (process.argv.includes('--check')) {
  console.error('docs/cli.md tells other options than the help; run node docs/options.mjs');
  process.exitCode = 1;
} else {
  writeFileSync(page, after);
  console.log('docs/cli.md was rewritten');
}
