/** What a learning-rate test leaves in a job's output folder: figures and a picture. */
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { exists } from '../formats/io/node.js';
import { makeFolder, prepareOutput, writeFileAtomic } from '../formats/io/write.js';
import type { LrFound } from '../train/lrFinder.js';
import { chartSvg } from './chart.js';

/** Its files. A folder that holds nothing else is free for a run. */
export const LR_FILES: readonly string[] = ['lr.json', 'lr.svg'];

/** Of the first smooth loss: how far up the picture goes, since a loss that diverges would flatten the rest. */
const CEILING = 1.25;
const RAW = '#1f77b4';
const CHOSEN = '#d95f02';

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
  const decade = ({ learningRate }: { learningRate: number }) => Math.log10(learningRate);
  const [from, to] = [decade(points[0]), decade(points[points.length - 1])];
  const first = Math.ceil(from - 1e-9);
  const decades = Array.from({ length: Math.floor(to + 1e-9) - first + 1 }, (_, i) => first + i);
  const at = points.findIndex(({ learningRate }) => learningRate === steepest);
  return chartSvg({
    title: 'learning-rate test',
    xLabel: 'learning rate',
    x: { from, to, ticks: decades.map((power) => ({ at: power, label: `1e${power}` })) },
    y: { from: Math.min(...smooth), to: Math.min(Math.max(...smooth), CEILING * smooth[0]) },
    series: [
      { points: points.map((point) => [decade(point), point.loss]), colour: RAW, faint: true },
      { points: points.map((point, i) => [decade(point), smooth[i]]), colour: RAW, name: 'loss, smoothed' },
      ...(at < 0
        ? []
        : [
            {
              points: [[decade(points[at]), smooth[at]] as const],
              colour: CHOSEN,
              name: 'falls fastest',
              dots: true,
            },
          ]),
    ],
  });
}
