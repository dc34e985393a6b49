/** Sets of rows by name: those that ship with the package, and those that are made on the spot. */
import { join } from 'node:path';
import { cacheFolder, demoData } from '../../api/locate.js';
import { makeOnce, writeFileAtomic } from '../../formats/io/write.js';
import { cipher } from './cipher.js';
import { type WeatherRow, weatherRows } from './weather.js';

/** Files of rows. */
export interface RowFiles {
  data: string[];
  evalData: string[];
}

/** Rows of the sets that are made: a file of a few hundred kilobytes. */
const TRAIN_ROWS = 4000;
const HELD_OUT_ROWS = 60;
/** Of the rows below, for files that another version has made. */
const VERSION = 1;

/** What a grid's `data` may name, and where the files are. */
export const namedRows: Readonly<Record<string, () => Promise<RowFiles>>> = {
  demo: async () => ({
    data: [join(demoData, 'train.jsonl')],
    evalData: [join(demoData, 'heldout.jsonl')],
  }),
  weather: () => made('weather', (row) => row),
  cipher: () =>
    made('cipher', ({ prompt, completion }) => ({ prompt: cipher(prompt), completion: cipher(completion) })),
};

async function made(name: string, change: (row: WeatherRow) => WeatherRow): Promise<RowFiles> {
  const at = (part: string) => join(cacheFolder(), `rows-${name}-${part}-v${VERSION}.jsonl`);
  const write = (path: string, rows: () => readonly WeatherRow[]) =>
    makeOnce(path, () =>
      writeFileAtomic(
        path,
        rows()
          .map((row) => `${JSON.stringify(change(row))}\n`)
          .join(''),
      ),
    );
  await write(at('train'), () => weatherRows(TRAIN_ROWS, HELD_OUT_ROWS).train);
  await write(at('heldout'), () => weatherRows(TRAIN_ROWS, HELD_OUT_ROWS).heldOut);
  return { data: [at('train')], evalData: [at('heldout')] };
}
