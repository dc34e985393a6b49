/** An analysis as files: analysis.json and pictures. */
import { join } from 'node:path';
import { picturesOf } from '../analysis/pictures.js';
import { writeFileAtomic, writeFolderAtomic } from '../formats/io/write.js';
import type { Analysis } from './analyze.js';
import { pngOf } from './picture.js';

/**
 * Writes analysis.json, and each picture as SVG and PNG. Returns the files' names. Throws UserError where the folder is there
 * already, or cannot be written; with `overwrite` it is replaced (claimOutput says beforehand whether it may be).
 */
export async function writeAnalysis(
  output: string,
  analysis: Analysis,
  options: { overwrite?: boolean } = {},
): Promise<string[]> {
  const { adapter, other, model, modules } = analysis;
  const subtitle = `${other === undefined ? 'beside random matrices' : `beside ${other}`}, base ${model}`;
  const pictures = picturesOf(modules, { title: adapter, subtitle });
  const files = ['analysis.json'];
  const fill = async (temporary: string) => {
    await writeFileAtomic(join(temporary, 'analysis.json'), `${JSON.stringify(analysis)}\n`);
    for (const [name, draw] of Object.entries(pictures)) {
      await writeFileAtomic(join(temporary, `${name}.svg`), draw('auto'));
      await writeFileAtomic(join(temporary, `${name}.png`), await pngOf(draw));
      files.push(`${name}.svg`, `${name}.png`);
    }
  };
  await writeFolderAtomic(output, fill, options);
  return files;
}
