/** Byte-level byte-pair encoding: the alphabet, the splitting of text into words, and the training of merges. */

/** Text is split like this before it is encoded: digits stand alone, then GPT-2's pattern. */
const DIGIT = /(\d)/;
const WORD = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** GPT-2's printable stand-in for each byte: itself where it is printable, else a letter from U+0100 on. */
export function byteAlphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

/** How often each word occurs, as bytes written in the alphabet. */
export function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const piece of text.split(DIGIT)) {
      for (const word of piece.match(WORD) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  const alphabet = byteAlphabet();
  return new Map(
    [...counts].map(([word, count]) => [
      [...Buffer.from(word)].map((byte) => alphabet[byte]).join(''),
      count,
    ]),
  );
}

interface Word {
  symbols: string[];
  count: number;
}

/**
 * Learns `count` merges (Sennrich et al. 2016): again and again the most frequent pair of neighbours
 * becomes one symbol; of equally frequent pairs the first in code-unit order. Single letters of more than
 * one byte aside, a merge never crosses a word.
 */
export function learnMerges(wordCounts: Map<string, number>, count: number): [string, string][] {
  const words: Word[] = [...wordCounts].map(([word, n]) => ({ symbols: [...word], count: n }));
  const pairCounts = new Map<string, number>();
  const pairWords = new Map<string, Set<Word>>();
  const tally = (word: Word, sign: 1 | -1) => {
    for (let i = 1; i < word.symbols.length; i++) {
      const pair = `${word.symbols[i - 1]} ${word.symbols[i]}`;
      pairCounts.set(pair, (pairCounts.get(pair) ?? 0) + sign * word.count);
      const users = pairWords.get(pair) ?? new Set();
      pairWords.set(pair, users.add(word));
    }
  };
  for (const word of words) tally(word, 1);

  const merges: [string, string][] = [];
  while (merges.length < count) {
    const best = mostFrequent(pairCounts);
    if (best === undefined) break;
    const [left, right] = best.split(' ');
    merges.push([left, right]);
    for (const word of pairWords.get(best)!) {
      tally(word, -1);
      word.symbols = merged(word.symbols, left, right);
      tally(word, 1);
    }
    pairCounts.delete(best);
    pairWords.delete(best);
  }
  return merges;
}

function mostFrequent(pairCounts: Map<string, number>): string | undefined {
  let best: string | undefined;
  let bestCount = 0;
  for (const [pair, n] of pairCounts) {
    if (n > bestCount || (n === bestCount && best !== undefined && pair < best)) {
      best = pair;
      bestCount = n;
    }
  }
  return best;
}

function merged(symbols: string[], left: string, right: string): string[] {
  const result: string[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      result.push(left + right);
      i++;
    } else result.push(symbols[i]);
  }
  return result;
}
