import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

// docs/paper is written by hand: its figures are those of the results beside it, and every file is named.
const folder = fileURLToPath(new URL('../../docs/paper/', import.meta.url));

interface Results {
  tables: {
    columns: { title: string; card: { digits?: number } }[];
    rows: { label: string; cells: { mean?: number; deviation?: number }[] }[];
  }[];
}

it('docs/paper names every file of results, and has the means and deviations of their losses', async () => {
  const text = await readFile(`${folder}README.md`, 'utf8');
  const missing: string[] = [];
  for (const name of await readdir(`${folder}results`)) {
    if (!text.includes(`results/${name}`)) missing.push(name);
    const { tables } = JSON.parse(await readFile(`${folder}results/${name}`, 'utf8')) as Results;
    for (const { columns, rows } of tables)
      for (const { label, cells } of rows)
        for (const [i, { mean, deviation }] of cells.entries()) {
          const { digits } = columns[i].card;
          if (mean === undefined || digits !== 4) continue;
          const told = [mean, ...(deviation && deviation > 10 ** -digits ? [deviation] : [])]
            .map((x) => x.toFixed(digits))
            .join(' ± ');
          if (!text.includes(told)) missing.push(`${name}: ${label}: ${told}`);
        }
  }
  expect(missing).toEqual([]);
});
