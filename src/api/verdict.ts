/** The verdict on an adapter by itself, as `train` ends with it. */
import { type ChangeFigures, placeOf } from '../analysis/module.js';
import { effectiveRanks, productValues } from '../analysis/spectrum.js';
import { type Finding, type Judged, verdictOf } from '../analysis/verdict.js';
import { energy } from '../base/linalg/matrix.js';
import { Turns } from '../base/work.js';
import type { Adapter } from '../methods/adapter.js';
import { productsOf } from '../methods/products.js';
import type { BaseModel } from '../models/base.js';

/** Multiplications that the end of a run may wait for: a second or two. VeRA's many directions take more. */
const PATIENCE = 5e9;

/** Judges what an adapter's products alone tell, without the base's weights; nothing where there are none, or too much of them. */
export async function verdictOfAdapter(adapter: Adapter, base: BaseModel): Promise<Finding[]> {
  const turns = new Turns();
  const judged: Judged[] = [];
  let work = 0;
  for (const [name, factors] of productsOf(adapter, base)) {
    await turns.take();
    const { b, a } = factors();
    work += a.rows ** 2 * (a.columns + b.rows + 10 * a.rows);
    if (work > PATIENCE) return [];
    const values = productValues({ b, a });
    const norm = Math.sqrt(energy(values));
    const ranks = effectiveRanks({ values, complete: true, norm });
    const change: ChangeFigures = {
      kind: 'product',
      rank: values.length,
      values: [...values],
      complete: true,
      norm,
      ...ranks,
    };
    judged.push({ ...placeOf(name), change });
  }
  return judged.length === 0 ? [] : verdictOf(judged);
}
