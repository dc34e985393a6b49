/** Flags of Python's `re`: those that a pattern itself can set. */

/** What is wrong with a pattern, in Python's words where it is Python that refuses it. */
export class PatternError extends Error {}

/** What a part of a pattern is read under. */
export interface Flags {
  ignoreCase: boolean;
  multiline: boolean;
  dotAll: boolean;
  verbose: boolean;
  /** \w, \d, \s and cases are those of ASCII only. */
  ascii: boolean;
}

export const NO_FLAGS: Flags = {
  ignoreCase: false,
  multiline: false,
  dotAll: false,
  verbose: false,
  ascii: false,
};
export const FLAG_OF: Readonly<Record<string, keyof Flags>> = {
  i: 'ignoreCase',
  m: 'multiline',
  s: 'dotAll',
  x: 'verbose',
  a: 'ascii',
};
/** The flags with those of `letters` set. Throws PatternError where they contradict. */
export function withFlags(flags: Flags, letters: string): Flags {
  if (letters.includes('L'))
    throw new PatternError("bad inline flags: cannot use 'L' flag with a str pattern");
  if (letters.includes('a') && letters.includes('u')) {
    throw new PatternError("bad inline flags: flags 'a', 'u' and 'L' are incompatible");
  }
  const changed = { ...flags };
  for (const letter of letters) {
    if (letter === 'u') changed.ascii = false;
    else changed[FLAG_OF[letter]] = true;
  }
  return changed;
}
