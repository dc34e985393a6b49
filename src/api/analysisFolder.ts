/** An analysis as files: analysis.json and pictures. */
import { join } from 'node:path';
import { picturesOf } from '../analysis/pictures.js';
import { UserError } from '../base/errors.js';
import { exists } from '../formats/io/node.js';
import { prepareOutput, writeFileAtomic, writeFolderAtomic } from '../formats/io/write.js';
import type { Analysis } from './analyze.js';
import { pngOf } from './picture.js';

/** Throws UserError where a folder for an analysis may not be written: it is there already, or cannot be written. */
export async function claimAnalysisFolder(output: string): Promise<void> {
  await prepareOutput(output);
  if (await exists(output)) throw new UserError(`${output} exists already; choose another output`);
}

/** Writes analysis.json, and each picture as SVG and PNG. Returns the files' names. Throws UserError as claimAnalysisFolder. */
export async function writeAnalysis(output: string, analysis: Analysis): Promise<string[]> {
  const { adapter, other, model, modules } = analysis;
  const subtitle = `${other === undefined ? 'beside random matrices' : `beside ${other}`}, base ${model}`;
  const pictures = picturesOf(modules, { title: adapter, subtitle });
  const files = ['analysis.json'];
  await writeFolderAtomic(output, async (temporary) => {
    await writeFileAtomic(join(temporary, 'analysis.json'), `${JSON.stringify(analysis)}\n`);
    for (const [name, draw] of Object.entries(pictures)) {
      await writeFileAtomic(join(temporary, `${name}.svg`), draw('auto'));
      await writeFileAtomic(join(temporary, `${name}.png`), await pngOf(draw));
      files.push(`${name}.svg`, `${name}.png`);
    }
  });
  return files;
}
