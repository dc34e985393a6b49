/** Pictures as files. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../base/errors.js';
import type { Theme } from '../draw/index.js';
import { writeFileAtomic } from '../formats/io/write.js';
import { claimFile } from './replace.js';

/** Draws a picture in a theme: `(theme) => lineChart(chart, theme)`. */
export type Picture = (theme: Theme) => string;

export interface PictureOptions {
  /** Without it SVG follows the reader's choice of light or dark, and PNG is light. */
  theme?: Theme;
  overwrite?: boolean;
}

const FONT = fileURLToPath(new URL('../../assets/font/DejaVuSans.ttf', import.meta.url));
const FAMILY = 'DejaVu Sans';
/** Pixels of a PNG picture for one of the SVG picture. */
const SCALE = 2;

/**
 * Throws UserError where no picture may be written to `path`, so that a long job can refuse before its work: its name ends
 * neither in .svg nor in .png, something is there that may not be replaced, or it cannot be written.
 */
export async function claimPicture(path: string, { overwrite }: PictureOptions = {}): Promise<void> {
  kindOf(path);
  await claimFile(path, { overwrite });
}

/** Writes a picture as SVG or PNG, as the name of the file ends. Throws UserError as {@link claimPicture} does. */
export async function savePicture(path: string, draw: Picture, options: PictureOptions = {}): Promise<void> {
  await claimPicture(path, options);
  const { theme = 'auto' } = options;
  const kind = kindOf(path);
  await writeFileAtomic(path, kind === 'svg' ? draw(theme) : await pngOf(draw, theme));
}

/** A picture as a PNG file of twice its pixels; without a choice of the reader's, `auto` is light. */
export async function pngOf(draw: Picture, theme: Theme = 'light'): Promise<Uint8Array> {
  const Resvg = await renderer();
  const image = new Resvg(draw(theme === 'auto' ? 'light' : theme), {
    fitTo: { mode: 'zoom', value: SCALE },
    font: {
      fontBuffers: [new Uint8Array(await readFile(FONT))],
      defaultFontFamily: FAMILY,
      sansSerifFamily: FAMILY,
    },
  });
  try {
    const pixels = image.render();
    try {
      return pixels.asPng();
    } finally {
      pixels.free();
    }
  } finally {
    image.free();
  }
}

function kindOf(path: string): 'svg' | 'png' {
  const ending = extname(path).slice(1).toLowerCase();
  if (ending === 'svg' || ending === 'png') return ending;
  throw new UserError(`cannot draw ${path}: a picture's name ends in .svg or .png`);
}

let loading: Promise<typeof import('@resvg/resvg-wasm').Resvg> | undefined;
/** The renderer, loaded once: most commands need none. */
function renderer(): Promise<typeof import('@resvg/resvg-wasm').Resvg> {
  loading ??= (async () => {
    const { initWasm, Resvg } = await import('@resvg/resvg-wasm');
    const wasm = createRequire(import.meta.url).resolve('@resvg/resvg-wasm/index_bg.wasm');
    await initWasm(await readFile(wasm));
    return Resvg;
  })();
  return loading;
}
