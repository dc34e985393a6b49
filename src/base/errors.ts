/**
 * What a person can mend: a bad file, key, option or row. The message is one sentence that names the
 * place, what was found and what was expected; the command line prints it alone, without a stack trace.
 */
export class UserError extends Error {
  override readonly name = 'UserError';

  constructor(message: string) {
    super(readable(message));
  }
}

/** Names and values out of files may be of any length: the middle of a message that nobody would read goes. */
function readable(message: string): string {
  return message.length > 1000 ? `${message.slice(0, 600)} ... ${message.slice(-300)}` : message;
}

/** The message of anything thrown, whatever its type. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * The entry of `choices` nearest to `word` by edit distance, for "did you mean …"; undefined when
 * nothing is near (more than a third of the letters differ).
 */
export function nearest(word: string, choices: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const choice of choices) {
    // So many letters would have to be put in or taken out: a long word costs nothing beside short choices.
    if (Math.abs(word.length - choice.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), choice.toLowerCase());
    if (distance < bestDistance) {
      best = choice;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
