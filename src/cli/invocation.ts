/** A command line to show. Who came by npx or an npm script has no `lowrank` on the path. */
export function commandLine(words: string): string {
  return `${process.env.npm_command ? 'npx ' : ''}lowrank ${words}`;
}
