/** Adapters in folders of a method's own form (Method.folder). */
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { type OwnConfig, readOwnConfig, readOwnTensors, writeOwnAdapter } from '../formats/ownAdapter.js';
import { peftTaskType } from '../formats/task.js';
import type { BaseModel } from '../models/base.js';
import { type Adapter, emptyState } from './adapter.js';
import { headOf, trainablesOf } from './head.js';
import { allMethods } from './index.js';
import { given } from './layerOptions.js';
import type { Method, Trainable } from './method.js';

const folders = allMethods.filter((method) => method.folder);
const types = folders.map((method) => method.folder!.peftType);

/** The configuration of a folder in some method's own form; undefined for any other folder. */
export function ownConfigOf(folder: string): Promise<OwnConfig | undefined> {
  return readOwnConfig(folder, types);
}

/** Writes an adapter whose method has a form of its own. */
export async function writeOwnFolder(
  folder: string,
  { method, config, trainables, values, head }: Adapter,
  baseName: string | null,
): Promise<void> {
  const { peftType, encode } = method.folder!;
  const saved = method.savedTensors?.(config, values) ?? values;
  const heads = new Set(trainables.filter(isOfModel).map(({ name }) => name));
  const added = [...saved].filter(([name]) => !heads.has(name));
  const tensors = new Map(
    [
      ...added.map(([name, t]) => [fileNameOf(method, name), t] as const),
      ...[...heads].map((name) => [headName(name), values.get(name)!] as const),
    ].map(([key, t]) => [key, { shape: t.dims, data: t.data }]),
  );
  const keys = { peft_type: peftType, ...encode(config), base_model_name_or_path: baseName };
  const own = head ? { ...keys, task_type: peftTaskType(head.task) } : keys;
  await writeOwnAdapter(folder, own, tensors);
}

/** Reads such a folder for a model. Throws UserError where it is broken or was made for another base. */
export async function loadOwnFolder(folder: string, found: OwnConfig, model: BaseModel): Promise<Adapter> {
  const { peft_type: peftType, base_model_name_or_path: _, task_type: __, ...rest } = found;
  const method = folders.find((one) => one.folder!.peftType === peftType)!;
  const place = join(folder, 'adapter_config.json');
  const config = method.parse(place, method.folder!.decode(place, rest));
  const tensors = await readOwnTensors(folder);
  const trainables = trainablesOf(method, config, model);
  const keyOf = (one: Trainable) => (isOfModel(one) ? headName(one.name) : fileNameOf(method, one.name));
  const values = new Map(
    trainables.map((one) => {
      const { name, shape } = one;
      const tensor = tensors.get(keyOf(one));
      if (!tensor)
        throw new UserError(`${folder} lacks ${name}, which a ${method.name} adapter of this model has`);
      if (String(tensor.shape) !== String(shape)) {
        throw new UserError(
          `${folder} was made for another base than ${model.folder}: ${name} is [${tensor.shape}], this model needs [${shape}]`,
        );
      }
      return [name, f32(tensor.data, shape)];
    }),
  );
  const known = new Set(trainables.map(keyOf));
  const foreign = [...tensors.keys()].find((name) => !known.has(name));
  if (foreign !== undefined) {
    throw new UserError(
      `${folder} was made for another base than ${model.folder}: the model has no place for ${foreign}`,
    );
  }
  return { method, config, trainables, values, state: emptyState(), ...given('head', headOf(model)) };
}

/** Whether it is a tensor of the model's own: of a task's head, which these methods have beside theirs. */
function isOfModel({ init }: Trainable): boolean {
  return init === null;
}

/** As PEFT names it in a file of virtual tokens. */
function headName(name: string): string {
  return `base_model.${name}`;
}

function fileNameOf({ folder }: Method<unknown>, name: string): string {
  return folder?.fileName?.(name) ?? name;
}
