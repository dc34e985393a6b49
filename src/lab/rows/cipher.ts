/** A language that no model was trained on, made of one that they know: each letter stands for another one, always the same. */

/** An order of the alphabet in which no letter is where it was. */
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz';
const SHUFFLED = 'qwertyuiopasdfghjklzxcvbnm';

/** Text with each letter of the alphabet replaced; small and capital letters, digits and signs stay what they are. */
export function cipher(text: string): string {
  return text.replace(/[a-z]/gi, (letter) => {
    const to = SHUFFLED[ALPHABET.indexOf(letter.toLowerCase())];
    return letter === letter.toLowerCase() ? to : to.toUpperCase();
  });
}
