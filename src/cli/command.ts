import { Command, CommanderError, Option } from 'commander';
import * as z from 'zod';
import { messageOf, nearest, UserError } from '../base/errors.js';
import { kebabCase } from '../base/names.js';
import { issueText } from '../formats/io/json.js';
import { flagsOf, inFlags } from './flags.js';
import { type HelpChoice, helpColumns, helpConfiguration, wrappedCommand } from './help.js';
import { endOnInterrupt } from './interrupt.js';
import { Terminal } from './terminal.js';
import { wrapped } from './text.js';

/** What a process exits with. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A command that was called wrongly: exit code 2. */
export class UsageError extends UserError {}

/** A command of the command line, as data. */
export interface CommandSpec {
  name: string;
  summary: string;
  /** More for the help, behind the summary. */
  description?: string;
  /** Options that stand without a flag, in their order; a list takes all that is left, an optional one may be missing. */
  positional?: readonly string[];
  /** Options by group; a required one has neither a default nor optional(). */
  groups: Record<string, z.ZodRawShape>;
  /** Options that --help shows, where --help-all has more. */
  common?: readonly string[];
  /** Whether Ctrl-C ends it with exit code 130 instead of by the signal: what writes does not compute for long at a time. */
  writes?: true;
  /** Complete command lines. */
  examples: readonly string[];
  /** `given` holds what was typed, each value checked by its schema. */
  run(given: Readonly<Record<string, unknown>>, terminal: Terminal): Promise<ExitCode>;
}

/** Checks options as a whole and fills in defaults. Throws UsageError where one is missing. */
export function parseOptions<S extends z.ZodObject>(
  schema: S,
  given: Readonly<Record<string, unknown>>,
  positional: readonly string[] = [],
): z.output<S> {
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const name = String(issue.path[0]);
  const flag = positional.includes(name) ? `<${name}>` : `--${kebabCase(name)}`;
  throw new UsageError(
    given[name] === undefined ? `${flag} is missing (see --help)` : `${flag}: ${issueText(issue)}`,
  );
}

/**
 * Runs the command that `argv` (without node and script) names. Never throws: a UserError is printed as one line
 * and anything else as one line too, its stack only with LOWRANK_DEBUG=1.
 */
export async function runProgram(
  specs: readonly CommandSpec[],
  version: string,
  argv: readonly string[],
): Promise<ExitCode> {
  let exitCode: ExitCode = exitCodes.ok;
  const program = new Command('lowrank')
    .description('LoRA fine-tuning, merging and generation for real models in Node')
    .version(version, '-V, --version', 'print the version')
    .helpCommand(false)
    .addHelpText('after', () => `\n${[HELP_HINT, ...EPILOGUE].flatMap(inColumns).join('\n')}`);
  configure(program);
  for (const spec of specs) {
    const command = addCommand(program, spec);
    command.action(async () => {
      const given: Record<string, unknown> = { ...command.opts() };
      for (const [i, name] of (spec.positional ?? []).entries()) given[name] = command.processedArgs[i];
      const terminal = new Terminal(given.json === true);
      const giveBack = endOnInterrupt(spec.writes ?? false);
      // An error has a line of its own, not the end of a live one.
      exitCode = await spec.run(given, terminal).finally(() => {
        terminal.clear();
        giveBack();
      });
    });
  }
  addHelpCommand(program);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return commanderCode(error);
    return report(error, new Set(specs.flatMap(({ groups }) => Object.values(groups).flatMap(Object.keys))));
  }
}

const HELP_HINT = 'lowrank <command> --help has the options of a command.';
const EPILOGUE = [
  'Exit codes: 0 done; 1 something is wrong with a file, an option or the machine; 2 wrong usage; 130 interrupted.',
  'Environment: LOWRANK_CACHE (converted models); HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE (the hub); ' +
    'LOWRANK_DEBUG=1 (stack traces); NO_COLOR.',
];

const inColumns = (text: string) => wrapped(text, helpColumns(process.stdout), '  ');

/** Adds a command without its action. */
function addCommand(program: Command, spec: CommandSpec): Command {
  const { name, summary, description, positional = [], groups, common, examples } = spec;
  const rare = new Set<Option>();
  const choice: HelpChoice = { isRare: (option) => rare.has(option), all: false };
  const command = program.command(name).summary(summary);
  configure(command, choice);
  command.description([summary, description].filter(Boolean).join('\n\n'));
  for (const argument of positional) {
    const schemas = Object.values(groups).flatMap((shape) => shape[argument] ?? []);
    const name = schemas.some((schema) => schema instanceof z.ZodArray) ? `${argument}...` : argument;
    const optional = schemas.some((schema) => schema instanceof z.ZodOptional);
    command.argument(optional ? `[${name}]` : `<${name}>`);
  }
  for (const [group, shape] of Object.entries(groups)) {
    for (const [option, schema] of Object.entries(shape)) {
      if (positional.includes(option)) continue;
      for (const flag of flagsOf(option, schema as z.ZodType, `${group}:`)) {
        command.addOption(flag);
        if (common && !common.includes(option)) rare.add(flag);
      }
    }
  }
  const all = new Option('--help-all', 'print the help with all options').hideHelp(!common);
  command.addOption(all).on('option:help-all', () => {
    choice.all = true;
    command.help();
  });
  command.addHelpText('after', () => {
    const columns = helpColumns(process.stdout);
    const hidden = choice.all ? 0 : [...rare].filter((option) => !option.hidden).length;
    const more = hidden > 0 ? ['', `${hidden} more options: lowrank ${name} --help-all`] : [];
    const lines = examples.flatMap((example) => wrappedCommand(example, columns - 2));
    return [...more, '', 'Examples:', ...lines.map((line) => `  ${line}`)].join('\n');
  });
  return command;
}

/** `lowrank help train`, for who types it so. */
function addHelpCommand(program: Command): void {
  const help = program.command('help').summary('print the help, or that of a command');
  configure(help);
  help.argument('[command]').action((name: string | undefined) => {
    if (name === undefined) program.help();
    const { commands } = program;
    const command = commands.find((one) => one.name() === name);
    if (command) command.help();
    const guess = nearest(
      name,
      commands.map((one) => one.name()),
    );
    throw new UsageError(`there is no command "${name}"${guess ? `; did you mean "${guess}"?` : ''}`);
  });
}

function configure(command: Command, choice: HelpChoice = { isRare: () => false, all: true }): void {
  command
    .exitOverride()
    .helpOption('-h, --help', 'print this help')
    .configureHelp(helpConfiguration(choice))
    .configureOutput({
      getOutHelpWidth: () => helpColumns(process.stdout),
      outputError: (text, write) => write(`lowrank: ${oneLine(text.replace(/^error: /, ''))}\n`),
    });
}

/** Help and version that were asked for are no errors; whatever else commander throws, it has printed. */
const ASKED_FOR = ['commander.helpDisplayed', 'commander.help', 'commander.version'];
function commanderCode({ code }: CommanderError): ExitCode {
  return ASKED_FOR.includes(code) ? exitCodes.ok : exitCodes.usage;
}

function report(error: unknown, options: ReadonlySet<string>): ExitCode {
  const debug = process.env.LOWRANK_DEBUG === '1';
  const known = error instanceof UserError;
  const hint = known || debug ? '' : ' (unexpected; LOWRANK_DEBUG=1 shows where)';
  const message = known ? inFlags(messageOf(error), options) : messageOf(error);
  process.stderr.write(`lowrank: ${oneLine(message)}${hint}\n`);
  if (debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return error instanceof UsageError ? exitCodes.usage : exitCodes.failed;
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ');
}
