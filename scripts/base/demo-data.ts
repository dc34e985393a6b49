import { join } from 'node:path';
import { writeFileAtomic } from '../../src/formats/io/write.js';
import { type WeatherRow, weatherRows } from '../../src/lab/rows/weather.js';
import { DEMO_FOLDER } from './paths.js';

/** Writes assets/demo/train.jsonl and heldout.jsonl. */
export async function writeDemoData(): Promise<void> {
  const { train, heldOut } = weatherRows(800, 60);
  const lines = (rows: readonly WeatherRow[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  await writeFileAtomic(join(DEMO_FOLDER, 'train.jsonl'), lines(train));
  await writeFileAtomic(join(DEMO_FOLDER, 'heldout.jsonl'), lines(heldOut));
  console.log(`${DEMO_FOLDER}: ${train.length} rows to train on, ${heldOut.length} held out`);
}
