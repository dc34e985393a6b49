/** Several examples in one row, so that less of it is padding. */

/** How much longer than the longest example rows are tried to be. */
const STRETCHES = [1, 1.5, 2, 3, 4, 8, 16];

/**
 * Ways to put items into rows: each into its own, and packed, for each row length that is worth a try: the longest
 * item's, and longer ones up to `budget`. In longer rows less is padding, but attention computes more that is hidden.
 */
export function packings<T>(items: readonly T[], lengthOf: (item: T) => number, budget: number): T[][][] {
  const longest = items.reduce((max, item) => Math.max(max, lengthOf(item)), 0);
  const room = Math.max(longest, budget);
  const capacities = new Set(STRETCHES.map((stretch) => Math.min(room, Math.ceil(stretch * longest))));
  const packed = [...capacities].map((capacity) => packRows(items, lengthOf, capacity));
  return [items.map((item) => [item]), ...packed];
}

/**
 * Best-fit decreasing: longest first, each item into the fullest row that still has room for it. At most 11/9 of the
 * rows that the best packing takes (Johnson, 1973). No item may be longer than `capacity`.
 */
export function packRows<T>(items: readonly T[], lengthOf: (item: T) => number, capacity: number): T[][] {
  const rows: { items: T[]; room: number }[] = [];
  for (const item of [...items].sort((a, b) => lengthOf(b) - lengthOf(a))) {
    const length = lengthOf(item);
    const fitting = rows.filter(({ room }) => room >= length);
    const fullest = fitting.reduce((a, b) => (b.room < a.room ? b : a), fitting[0]);
    if (fullest) {
      fullest.items.push(item);
      fullest.room -= length;
    } else rows.push({ items: [item], room: capacity - length });
  }
  return rows.map(({ items }) => items);
}
