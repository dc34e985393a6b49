/**
 * The merges that a SentencePiece vocabulary implies: every way to cut a token into two others, best
 * scores first, as Hugging Face's converter orders them (SentencePieceExtractor, generate_merges).
 */
export function mergesFromScores(tokens: readonly string[], scores: readonly number[]): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { left: string; right: string; score: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    const cuts: { left: string; right: string; ids: [number, number] }[] = [];
    const characters = [...token];
    for (let i = 1; i < characters.length; i++) {
      const left = characters.slice(0, i).join('');
      const right = characters.slice(i).join('');
      const l = ids.get(left);
      const r = ids.get(right);
      if (l !== undefined && r !== undefined) cuts.push({ left, right, ids: [l, r] });
    }
    cuts.sort((a, b) => a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
    for (const { left, right } of cuts) merges.push({ left, right, score: scores[id] });
  }
  // Stable, so equal keys keep the order of ids. Lengths in characters, longer first, as Python sorts in reverse.
  const length = new Map(tokens.map((token) => [token, [...token].length]));
  merges.sort(
    (a, b) =>
      b.score - a.score ||
      length.get(b.left)! - length.get(a.left)! ||
      length.get(b.right)! - length.get(a.right)!,
  );
  return merges.map(({ left, right }) => [left, right]);
}
