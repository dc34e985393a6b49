/** What the readers of config.json share. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';

/** More than any model has; what asks for more would build graphs for ever. */
const MAX_LAYERS = 1024;

export const size = z.int().positive();
export const layerCount = size.max(MAX_LAYERS);

/** Dimensions of a head, by the keys of width and number of heads. Throws UserError where the one does not divide the other. */
export function headSize(place: string, keys: Readonly<Record<string, number>>): number {
  const [[widthKey, width], [headsKey, heads]] = Object.entries(keys);
  if (width % heads === 0) return width / heads;
  throw new UserError(`${place}: key "${headsKey}": ${heads} does not divide ${widthKey}, ${width}`);
}
