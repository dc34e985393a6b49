import { Command, CommanderError } from 'commander';
import * as z from 'zod';
import { messageOf, UserError } from '../base/errors.js';
import { kebabCase } from '../base/names.js';
import { flagsOf } from './flags.js';
import { Terminal } from './terminal.js';

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
  /** Options that stand without a flag, in their order; a list takes all that is left. */
  positional?: readonly string[];
  /** Options by group; a required one has neither a default nor optional(). */
  groups: Record<string, z.ZodRawShape>;
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
  const [{ path, message }] = result.error.issues;
  const name = String(path[0]);
  const flag = positional.includes(name) ? `<${name}>` : `--${kebabCase(name)}`;
  throw new UsageError(given[name] === undefined ? `${flag} is missing (see --help)` : `${flag}: ${message}`);
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
    .version(version)
    .helpCommand(false)
    .addHelpText('after', `\n${epilogue}`);
  configure(program);
  for (const spec of specs) {
    const command = program.command(spec.name).summary(spec.summary);
    configure(command);
    command.description([spec.summary, spec.description].filter(Boolean).join('\n\n'));
    for (const name of spec.positional ?? []) {
      const list = Object.values(spec.groups).some((shape) => shape[name] instanceof z.ZodArray);
      command.argument(list ? `<${name}...>` : `<${name}>`);
    }
    for (const [group, shape] of Object.entries(spec.groups)) {
      for (const [name, schema] of Object.entries(shape)) {
        if (spec.positional?.includes(name)) continue;
        for (const flag of flagsOf(name, schema as z.ZodType, `${group}:`)) command.addOption(flag);
      }
    }
    command.addHelpText('after', `\nExamples:\n${spec.examples.map((e) => `  ${e}`).join('\n')}`);
    command.action(async () => {
      const given: Record<string, unknown> = { ...command.opts() };
      for (const [i, name] of (spec.positional ?? []).entries()) given[name] = command.processedArgs[i];
      const terminal = new Terminal(given.json === true);
      // An error has a line of its own, not the end of a live one.
      exitCode = await spec.run(given, terminal).finally(() => terminal.clear());
    });
  }
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return commanderCode(error);
    return report(error);
  }
}

const epilogue = [
  'Exit codes: 0 done; 1 something is wrong with a file, an option or the machine; 2 wrong usage; 130 interrupted.',
  'Environment: LOWRANK_CACHE (converted models), HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE (the hub),',
  'LOWRANK_DEBUG=1 (stack traces), NO_COLOR.',
].join('\n');

function configure(command: Command): void {
  command.exitOverride().configureOutput({
    outputError: (text, write) => write(`lowrank: ${oneLine(text.replace(/^error: /, ''))}\n`),
  });
}

/** Help and version that were asked for are no errors; whatever else commander throws, it has printed. */
function commanderCode({ code }: CommanderError): ExitCode {
  return code === 'commander.helpDisplayed' || code === 'commander.version' ? exitCodes.ok : exitCodes.usage;
}

function report(error: unknown): ExitCode {
  const debug = process.env.LOWRANK_DEBUG === '1';
  const known = error instanceof UserError;
  const hint = known || debug ? '' : ' (unexpected; LOWRANK_DEBUG=1 shows where)';
  process.stderr.write(`lowrank: ${oneLine(messageOf(error))}${hint}\n`);
  if (debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return error instanceof UsageError ? exitCodes.usage : exitCodes.failed;
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ');
}
