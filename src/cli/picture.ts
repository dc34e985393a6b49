/** The options of commands that draw a picture of what they tell. */
import * as z from 'zod';
import { claimPicture, type Picture, savePicture } from '../api/picture.js';
import { themes } from '../draw/index.js';
import { overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';

export const pictureShape = {
  picture: z
    .string()
    .min(1)
    .meta({ valueName: 'file' })
    .optional()
    .describe('draw a picture of it to this file, whose name ends in .svg or .png'),
  theme: z
    .enum(themes)
    .default('auto')
    .describe('ground of the picture; auto is what its reader prefers, and light in a .png file'),
  overwrite: overwriteOption,
};

export type PictureChoice = z.output<z.ZodObject<typeof pictureShape>>;

/** Throws UserError where the picture asked for may not be written. */
export async function claimChosenPicture({ picture, ...options }: PictureChoice): Promise<void> {
  if (picture !== undefined) await claimPicture(picture, options);
}

/** Writes the picture where one is asked for, and tells of it. */
export async function saveChosenPicture(
  { picture, ...options }: PictureChoice,
  draw: Picture,
  terminal: Terminal,
): Promise<void> {
  if (picture === undefined) return;
  await savePicture(picture, draw, options);
  terminal.emit({ kind: 'picture', path: picture });
  terminal.say();
  terminal.say(`drew ${picture}`);
}
