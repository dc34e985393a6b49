/** Names along an axis of kinds. */
import { SMALL } from './figure.js';
import { textAt } from './svg.js';
import { clipped, textWidth } from './textSize.js';

const TURNED = 35;
const SHORT = 30;
const MANY = 12;

/** Names below places of a horizontal axis: upright where they fit beside each other, else turned. */
export function namesBelow(
  names: readonly string[],
  place: (i: number) => number,
  room: number,
  y: number,
): { drawn: string[]; bottom: number } {
  const widest = Math.max(0, ...names.map((name) => textWidth(name, SMALL)));
  if (widest <= room) return upright(names, place, y, 1);
  // Numbers are left out rather than turned.
  const thinned = Math.ceil((widest + 8) / (room + 4));
  if (widest <= SHORT && names.length > MANY) return upright(names, place, y, thinned);
  const longest = Math.min(170, widest);
  // Turned names would stand in each other's way where they are closer than they are high.
  const every = Math.max(1, Math.ceil(18 / (room + 6)));
  const slope = (TURNED * Math.PI) / 180;
  return {
    drawn: names.flatMap((name, i) => {
      if (i % every !== 0) return [];
      // What begins outside of the picture would be cut.
      const [x, top] = [place(i) + 3, y + 14];
      const fits = Math.min(longest, (x - 4) / Math.cos(slope));
      return [
        textAt(x, top, clipped(name, fits, SMALL), {
          anchor: 'end',
          'font-size': SMALL,
          class: 'muted name-x',
          transform: `rotate(-${TURNED} ${x.toFixed(1)} ${top.toFixed(1)})`,
        }),
      ];
    }),
    bottom: y + 26 + longest * Math.sin(slope),
  };
}

function upright(names: readonly string[], place: (i: number) => number, y: number, every: number) {
  return {
    drawn: names.flatMap((name, i) =>
      i % every === 0
        ? [textAt(place(i), y + 18, name, { anchor: 'middle', 'font-size': SMALL, class: 'muted name-x' })]
        : [],
    ),
    bottom: y + 32,
  };
}
