/** A command line to show, of what stands behind `lowrank`. */
export function commandLine(words: string): string {
  return asTyped(`lowrank ${words}`);
}

/** A command line as it is typed here: who came by npx or an npm script has no `lowrank` on the path. */
export function asTyped(command: string): string {
  return process.env.npm_command ? `npx ${command}` : command;
}
