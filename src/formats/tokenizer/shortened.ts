/** Lengths of one or two texts that have room together: the longer gives first, then both alike, as the Rust library does it. */
export function shortened(lengths: readonly number[], room: number): readonly number[] {
  const [first, second = 0] = lengths;
  if (first + second <= room) return lengths;
  if (lengths.length === 1) return [room];
  const short = Math.min(first, second);
  const half = Math.floor(room / 2);
  const [less, more] = short > half ? [half, room - half] : [short, room - short];
  return first > second ? [more, less] : [less, more];
}
