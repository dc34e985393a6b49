/** What a learning-rate test leaves in a job's output folder: figures and a picture. */
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { lineChart } from '../draw/index.js';
import { exists } from '../formats/io/node.js';
import { makeFolder, prepareOutput, writeFileAtomic } from '../formats/io/write.js';
import type { LrFound } from '../train/lrFinder.js';

/** Its files. A folder that holds nothing else is free for a run. */
export const LR_FILES: readonly string[] = ['lr.json', 'lr.svg'];

/** Of the first smooth loss: how far up the picture goes, since a loss that diverges would flatten the rest. */
const CEILING = 1.25;

/** Throws UserError where a test's files are there already and may not be replaced, or cannot be written. */
export async function claimLrReport(folder: string, overwrite: boolean): Promise<void> {
  await prepareOutput(folder);
  if (overwrite || !(await exists(join(folder, LR_FILES[0])))) return;
  throw new UserError(`${join(folder, LR_FILES[0])} exists already; --overwrite it`);
}

/** Writes the files and returns their paths. `record` is put before the result in lr.json. */
export async function writeLrReport(folder: string, found: LrFound, record: object): Promise<string[]> {
  await makeFolder(folder);
  const { points, smooth, steepest = null, tenthOfLowest = null, end } = found;
  const [json, svg] = LR_FILES.map((name) => join(folder, name));
  const result = { ...record, end, steepest, tenthOfLowest };
  const losses = points.map((point, i) => ({ ...point, smooth: smooth[i] }));
  await writeFileAtomic(json, `${JSON.stringify({ ...result, points: losses }, null, 2)}\n`);
  await writeFileAtomic(svg, lrSvg(found));
  return [json, svg];
}

/** Draws the losses over the learning rate, on a logarithmic axis, and where the smooth one falls fastest. */
export function lrSvg({ points, smooth, steepest }: LrFound): string {
  const at = points.findIndex(({ learningRate }) => learningRate === steepest);
  const [low, high] = [Math.min(...smooth), Math.min(Math.max(...smooth), CEILING * smooth[0])];
  return lineChart({
    title: 'learning-rate test',
    x: { label: 'learning rate', log: true },
    y: { label: 'loss', from: low - (high - low) / 20, to: high },
    series: [
      {
        name: 'loss of each step',
        points: points.map(({ learningRate, loss }) => [learningRate, loss]),
        look: 0,
        faint: true,
      },
      {
        name: 'loss, smoothed',
        points: points.map(({ learningRate }, i) => [learningRate, smooth[i]]),
        look: 0,
      },
      ...(at < 0
        ? []
        : [
            {
              name: 'falls fastest',
              points: [[points[at].learningRate, smooth[at]] as const],
              look: 1,
              line: false,
            },
          ]),
    ],
  });
}
