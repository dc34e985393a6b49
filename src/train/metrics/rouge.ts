/** ROUGE-L of a text, as rouge-score computes it without its stemmer. */

/** A word is what stands between other characters; letters with accents are such others, as in Lin's original program. */
const WORD = /[a-z0-9]+/g;

/**
 * F-measure of the longest common subsequence of words, 0 to 1: the harmonic mean of its shares of the prediction's and of the
 * reference's words. 0 where one of the two has no words.
 */
export function rougeL(prediction: string, reference: string): number {
  const [said, wanted] = [wordsOf(prediction), wordsOf(reference)];
  if (said.length === 0 || wanted.length === 0) return 0;
  return (2 * commonLength(said, wanted)) / (said.length + wanted.length);
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(WORD) ?? [];
}

/** Length of the longest common subsequence, one row of the table at a time. */
function commonLength(a: readonly string[], b: readonly string[]): number {
  let above = new Uint32Array(b.length + 1);
  for (const word of a) {
    const row = new Uint32Array(b.length + 1);
    for (let j = 0; j < b.length; j++)
      row[j + 1] = word === b[j] ? above[j] + 1 : Math.max(above[j + 1], row[j]);
    above = row;
  }
  return above[b.length];
}
