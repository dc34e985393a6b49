// Rewrites the tables of options in docs/cli.md from the flags of the built commands, or with --check only compares:
//   npm run build && node docs/options.mjs [--check]
import { readFileSync, writeFileSync } from 'node:fs';
import { commands } from '../dist/cli/commands.js';
import { flagsOf } from '../dist/cli/flags.js';

const page = new URL('./cli.md', import.meta.url);

/** The table of a command's options, as --help-all has them. */
function tableOf({ groups, positional = [] }) {
  const shown = Object.values(groups)
    .flatMap((shape) => Object.entries(shape))
    .filter(([name]) => !positional.includes(name))
    .flatMap(([name, schema]) => flagsOf(name, schema, ''))
    .filter(({ hidden }) => !hidden);
  const rows = shown.map(({ flags, description }) => {
    const [, what, fallback = '', often = ''] = /^(.*?)(?: \(default: (.*?)\))?( \(may be repeated\))?$/.exec(
      description,
    );
    return [`\`${flags}\``, what + often, fallback].map((cell) => cell.replaceAll('|', '\\|'));
  });
  const table = [['option', 'what', 'default'], ['---', '---', '---'], ...rows];
  return table.map((cells) => `| ${cells.join(' | ')} |\n`).join('');
}

/** The page with the table of each command's section replaced. Throws where a command has no section. */
function withOptions(text) {
  const missing = new Map(commands.map((command) => [command.name, command]));
  const page = text.replace(/^(### (\w+)\n(?:(?!^#)[^|])*)(?:\|.*\n)+/gm, (_, head, name) => {
    const command = missing.get(name);
    missing.delete(name);
    return head + tableOf(command);
  });
  if (missing.size > 0) throw new Error(`docs/cli.md has no section "### ${[...missing.keys()].join(', ')}"`);
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
