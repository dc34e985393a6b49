import { Rng } from '../../src/base/rng.js';

/**
 * Index cards made of WordNet's entries: some fields in any order, then a sentence that repeats them, to be
 * predicted only by looking them up.
 */
const SENTENCES: Record<string, (word: string, sense: string) => string> = {
  noun: (word, sense) => `The noun ${word} means ${sense}`,
  verb: (word, sense) => `To ${word} is to ${sense}`,
  adjective: (word, sense) => `If something is ${word}, it is ${sense}`,
  adverb: (word, sense) => `To do it ${word} is to do it ${sense}`,
};
const ENTRY = /^([a-z' -]+) \((noun|verb|adjective|adverb)\): ([^;("]+)/;
const MAX_SENSE_CHARS = 60;

/** One card for every entry of the documents that is short enough. */
export function cards(documents: readonly string[], seed: number): string[] {
  const rng = new Rng(seed, 'cards');
  const entries = documents.flatMap((text) => text.split('\n').flatMap((line) => ENTRY.exec(line) ?? []));
  const result: string[] = [];
  for (let i = 0; i + 3 < entries.length; i += 4) {
    const [, word, kind, sense] = entries.slice(i, i + 4).map((part) => part.trim());
    if (sense.length > MAX_SENSE_CHARS) continue;
    const page = 1 + rng.below(999);
    const fields = [`Word: ${word}`, `Kind: ${kind}`, `Sense: ${sense}`, `Page: ${page}`];
    const order = rng.permutation(fields.length).map((k) => fields[k]);
    const sentence = `${SENTENCES[kind](word, sense)}, as page ${page} says.`;
    result.push(`${order.join('\n')}\nEntry: ${sentence}`);
  }
  return rng.permutation(result.length).map((k) => result[k]);
}
