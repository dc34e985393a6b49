/** How help looks: within the terminal's width, no word broken, an option's long name on a line of its own. */
import { type Command, Help, type Option } from 'commander';
import { fill } from './text.js';

/** Lines of a pipe, of a file, and of a terminal that does not know its width. */
const FALLBACK_COLUMNS = 80;
/** Longer lines are hard to read, and narrower ones hold no word. */
const COLUMNS = { least: 30, most: 120 };
/** What names of options may take of a line, at most; a longer one has its text below it. */
const TERM = { most: 30, share: 0.4 };

/** Options that --help leaves to --help-all. */
export interface HelpChoice {
  isRare(option: Option): boolean;
  /** Whether everything is shown. */
  all: boolean;
}

/** Characters of a line of help: of the terminal, else what COLUMNS says, as argparse and others take it. */
export function helpColumns(stream: NodeJS.WriteStream): number {
  const columns = (stream.isTTY && stream.columns) || Number(process.env.COLUMNS) || FALLBACK_COLUMNS;
  return Math.min(COLUMNS.most, Math.max(COLUMNS.least, columns));
}

/** What commander's Help does otherwise here. */
export function helpConfiguration(choice: HelpChoice): Partial<Help> {
  const plain = new Help();
  return {
    minWidthToWrap: 1,
    subcommandTerm: (command: Command) => command.name(),
    visibleOptions: (command: Command) =>
      plain.visibleOptions(command).filter((option) => choice.all || !choice.isRare(option)),
    padWidth: (command: Command, helper: Help) =>
      Math.min(plain.padWidth(command, helper), TERM.most, Math.floor(TERM.share * (helper.helpWidth ?? 0))),
    formatItem(term: string, termWidth: number, description: string, helper: Help): string {
      const room = (helper.helpWidth ?? FALLBACK_COLUMNS) - termWidth - 4;
      const lines = helper.boxWrap(description, room).split('\n');
      const indent = ' '.repeat(termWidth + 4);
      if (term.length > termWidth) return [`  ${term}`, ...lines.map((line) => indent + line)].join('\n');
      return `  ${term.padEnd(termWidth)}  ${lines.join(`\n${indent}`)}`.trimEnd();
    },
  };
}

/** A command line in lines of so many characters at most, as a shell takes it: `\` where it goes on. */
export function wrappedCommand(command: string, columns: number): string[] {
  // What is quoted stays together, and so does an option with its value.
  const words = command.match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
  const units: string[] = [];
  for (const word of words) {
    const before = units.at(-1);
    const isValue = before !== undefined && /^--[\w-]+$/.test(before) && !word.startsWith('--');
    if (isValue) units[units.length - 1] = `${before} ${word}`;
    else units.push(word);
  }
  return fill(units, columns, '    ', ' \\');
}
