/** What pictures look like: grounds, inks and the looks by which series are told apart. */
import {
  type SymbolType,
  symbolCircle,
  symbolCross,
  symbolDiamond,
  symbolSquare,
  symbolStar,
  symbolTriangle,
  symbolWye,
} from 'd3-shape';

/** `auto` follows the reader's choice (prefers-color-scheme); programs without that draw light. */
export type Theme = 'auto' | 'light' | 'dark';
export const themes = ['auto', 'light', 'dark'] as const satisfies readonly Theme[];

interface Inks {
  ground: string;
  text: string;
  muted: string;
  grid: string;
  axis: string;
}

export const inks: Readonly<Record<'light' | 'dark', Inks>> = {
  light: { ground: '#ffffff', text: '#1f2328', muted: '#57606a', grid: '#dde2e7', axis: '#8c959f' },
  dark: { ground: '#15181d', text: '#e6edf3', muted: '#9aa4ae', grid: '#2f353c', axis: '#6e7681' },
};

/** How a series is drawn; two of the first thirty never have colour in common and dashes or marker too. */
export interface Look {
  colour: string;
  /** An SVG dash array; undefined is a solid line. */
  dash: string | undefined;
  marker: SymbolType;
  /** The angle of the hatching of a bar; undefined is none. */
  hatch: number | undefined;
}

/** From Okabe and Ito's colours, two of them darker: at least 3:1 on either ground, told apart with any colour vision. */
export const seriesColours: readonly string[] = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#a67c00',
  '#767676',
];
const DASHES = [undefined, '7 4', '2 3', '10 3 2 3', '14 5'] as const;
const MARKERS = [
  symbolCircle,
  symbolSquare,
  symbolTriangle,
  symbolDiamond,
  symbolCross,
  symbolStar,
  symbolWye,
] as const;
const HATCHES = [undefined, 45, 135, 0, 90] as const;

/** The look of the nth series of a picture. */
export function lookOf(n: number): Look {
  const at = <T>(list: readonly T[]) => list[n % list.length];
  return { colour: at(seriesColours), dash: at(DASHES), marker: at(MARKERS), hatch: at(HATCHES) };
}

/** What text of a heat map's cell is written in, on a colour. */
export function inkOn(colour: string): string {
  return contrast(colour, '#000000') > contrast(colour, '#ffffff') ? '#000000' : '#ffffff';
}

/** WCAG's contrast of two colours (#rrggbb or rgb()), from 1 to 21. */
export function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function luminance(colour: string): number {
  const parts = colour.startsWith('#')
    ? [1, 3, 5].map((i) => Number.parseInt(colour.slice(i, i + 2), 16))
    : colour.match(/[\d.]+/g)!.map(Number);
  const [r, g, b] = parts.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The style sheet of a picture whose root has the class `lowrank-<theme>`. */
export function styleOf(theme: Theme): string {
  const root = `.lowrank-${theme}`;
  const rules = ({ ground, text, muted, grid, axis }: Inks) =>
    [
      `${root} .ground{fill:${ground}}`,
      `${root} text{fill:${text}}`,
      `${root} .muted{fill:${muted}}`,
      `${root} .grid{stroke:${grid}}`,
      `${root} .axis{stroke:${axis}}`,
      `${root} .ink{stroke:${text}}`,
      `${root} .halo{stroke:${ground}}`,
    ].join('');
  const face = `${root} text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}`;
  if (theme !== 'auto') return face + rules(inks[theme]);
  return `${face}${rules(inks.light)}@media (prefers-color-scheme:dark){${rules(inks.dark)}}`;
}
