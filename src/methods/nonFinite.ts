/** Why a model computes what is not finite: told when it happens, for it is seen far from where it began. */
import { UserError } from '../base/errors.js';
import { countNonFinite, nonFiniteText } from '../base/finite.js';
import type { BaseModel } from '../models/base.js';
import type { Adapter } from './adapter.js';

/** The first tensor of an adapter or its base that is not finite, in words; undefined where all are. Reads every weight. */
export async function brokenTensor(
  model: Pick<BaseModel, 'checkpoint' | 'parameters'>,
  adapter: Pick<Adapter, 'values'> | undefined,
): Promise<string | undefined> {
  for (const [name, { data }] of adapter?.values ?? []) {
    const count = countNonFinite(data);
    if (count > 0) return `the adapter's ${name}: ${nonFiniteText(count, data.length)}`;
  }
  const { checkpoint, parameters } = model;
  for (const name of parameters.keys()) {
    const data = await checkpoint.read(name);
    const count = countNonFinite(data);
    if (count > 0) return `${checkpoint.folder}, ${name}: ${nonFiniteText(count, data.length)}`;
  }
  return undefined;
}

/** What to throw where `what` ("the loss") came out as NaN or infinity: a UserError that names the likely cause. */
export async function nonFiniteError(
  what: string,
  model: Pick<BaseModel, 'checkpoint' | 'parameters'>,
  adapter: Pick<Adapter, 'values'> | undefined,
): Promise<UserError> {
  const cause =
    (await brokenTensor(model, adapter)) ??
    `every weight is finite, so the layers' values grow beyond float32${adapter ? ': is this the base that the adapter was trained on?' : ''}`;
  return new UserError(`${what} is NaN or infinite: ${cause}`);
}
