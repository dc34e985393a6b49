/** Changes that are products of two thin matrices. */
import type { Factors } from '../base/linalg/matrix.js';
import type { BaseModel } from '../models/base.js';
import { matrixName } from '../models/model.js';
import { type Adapter, targetSites } from './adapter.js';
import type { SiteValues } from './method.js';

/** Of each site where an adapter's change is a product and nothing else: what computes its factors. */
export function productsOf(adapter: Adapter, base: BaseModel): Map<string, () => Factors> {
  const { method, config, trainables, values } = adapter;
  const whole = new Set(trainables.filter(({ init }) => init === null).map(({ name }) => name));
  const found = new Map<string, () => Factors>();
  const factors = method.factors?.(config);
  if (!factors) return found;
  for (const [name, site] of targetSites(adapter, base)) {
    if (whole.has(`${name}.weight`) || whole.has(matrixName(site))) continue;
    const tensors: SiteValues = {
      site,
      value: (part) => values.get(`${name}.${part}`)!,
      shared: (tensor) => values.get(tensor)!,
    };
    found.set(name, () => factors(tensors));
  }
  return found;
}
