import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toAscii } from './text.js';

const PARTS = { noun: 'noun', verb: 'verb', adj: 'adjective', adv: 'adverb' } as const;
/** Lexicographer files of nouns that are mostly taxonomy: animals, groups, bodies of land and water, plants, chemistry. */
const TAXONOMY = new Set(['05', '14', '15', '17', '20', '27']);
/** Entries in one document: neighbours in the file are related in meaning. */
const ENTRIES_PER_DOCUMENT = 24;

/**
 * WordNet's entries as lines of text, e.g. `rally (noun): the feat of mustering strength for a renewed
 * effort; "he singled to start a rally in the 9th inning"`. The example often repeats the word. Nouns of taxonomy are taken only where they have an example.
 */
export async function wordnetDocuments(folder: string): Promise<string[]> {
  const documents: string[] = [];
  for (const [file, part] of Object.entries(PARTS)) {
    const text = await readFile(join(folder, `data.${file}`), 'latin1');
    const lines = text.split('\n').flatMap((line) => entryLine(line, part) ?? []);
    for (let i = 0; i < lines.length; i += ENTRIES_PER_DOCUMENT) {
      documents.push(lines.slice(i, i + ENTRIES_PER_DOCUMENT).join('\n'));
    }
  }
  return documents;
}

/** The text of one line of a data file (format: wndb(5WN)); undefined for what is left out. */
function entryLine(line: string, part: string): string | undefined {
  const bar = line.indexOf(' | ');
  if (line.startsWith('  ') || bar < 0) return undefined;
  const [, lexFile, , count, ...words] = line.slice(0, bar).split(' ');
  const lemmas = Array.from({ length: Number.parseInt(count, 16) }, (_, i) =>
    words[2 * i].replace(/\(\w+\)$/, '').replaceAll('_', ' '),
  );
  const lemma = lemmas[0];
  const gloss = toAscii(line.slice(bar + 3)).trim();
  if (!/^[a-z][a-z' -]*$/.test(lemma)) return undefined;
  if (TAXONOMY.has(lexFile) && !gloss.includes('"')) return undefined;
  return `${lemma} (${part}): ${gloss}`;
}
