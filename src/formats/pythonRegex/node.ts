import type { CharTest } from './characters.js';
import type { Flags } from './flags.js';

/** A part of a pattern. */
export type Node =
  | { type: 'char'; test: CharTest }
  | { type: 'at'; where: '^' | '$' | 'A' | 'Z' | 'b' | 'B'; flags: Flags }
  | { type: 'sequence'; items: Node[] }
  | { type: 'branch'; branches: Node[] }
  /** Without an index it captures nothing. */
  | { type: 'group'; index?: number; body: Node }
  | { type: 'repeat'; body: Node; min: number; max: number; kind: 'greedy' | 'lazy' | 'possessive' }
  /** `width` is how far a look-behind goes back. */
  | { type: 'look'; body: Node; negative: boolean; width?: number }
  | { type: 'atomic'; body: Node }
  | { type: 'reference'; group: number; width: Width; flags: Flags }
  | { type: 'condition'; group: number; yes: Node; no: Node };

/** The least and the most characters that a part can take. */
export type Width = readonly [least: number, most: number];

/** How many characters a part takes. */
export function widthOf(node: Node): Width {
  switch (node.type) {
    case 'char':
      return [1, 1];
    case 'at':
    case 'look':
      return [0, 0];
    case 'sequence':
      return node.items.map(widthOf).reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0] as Width);
    case 'branch':
      return either(node.branches.map(widthOf));
    case 'group':
    case 'atomic':
      return widthOf(node.body);
    case 'repeat': {
      const [least, most] = widthOf(node.body);
      return [least * node.min, most === 0 || node.max === 0 ? 0 : most * node.max];
    }
    case 'condition':
      return either([widthOf(node.yes), widthOf(node.no)]);
    case 'reference':
      return node.width;
  }
}

function either(widths: readonly Width[]): Width {
  return [Math.min(...widths.map(([a]) => a)), Math.max(...widths.map(([, b]) => b))];
}
