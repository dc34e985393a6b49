/** The shape of a model: all that can be said of it without a weight. */
import * as z from 'zod';
import { nearest, UserError } from '../../base/errors.js';
import type { StoredDType } from '../../base/tensor.js';
import { type CountedModel, countedModels } from '../../models/counted.js';
import { architectures, parseModelConfig } from '../../models/index.js';
import type { ModelConfig } from '../../models/model.js';
import { describe } from '../../models/shape.js';

export interface ModelShape extends CountedModel {
  /** What it is called in the tables. */
  name: string;
  /** Element type of its weights, as they are published or lie on the disk. */
  dtype: StoredDType;
  /** Of the models that are trained here; without it a model can only be counted. */
  config?: ModelConfig;
}

const DTYPES: Readonly<Record<string, StoredDType>> = {
  float32: 'float32',
  float16: 'float16',
  bfloat16: 'bfloat16',
};
const typeKeys = z.looseObject({
  model_type: z.string(),
  dtype: z.string().nullish(),
  torch_dtype: z.string().nullish(),
});

/**
 * The shape that a parsed config.json describes; `place` names the file in errors. Its element type is that of
 * `torch_dtype` or `dtype`, else float32, as transformers has it. Throws UserError where the model_type is one that is
 * not known, or a key is missing or wrong.
 */
export function shapeOfConfig(name: string, place: string, config: unknown): ModelShape {
  const keys = typeKeys.safeParse(config);
  if (!keys.success) throw new UserError(`${place}: key "model_type" is missing`);
  const { model_type: type, dtype, torch_dtype: torchDtype } = keys.data;
  const stored = DTYPES[dtype ?? torchDtype ?? 'float32'] ?? 'float32';
  if (Object.hasOwn(architectures, type)) {
    return shapeOfNetwork(name, parseModelConfig(place, config), stored);
  }
  if (Object.hasOwn(countedModels, type)) {
    return { ...countedModels[type](place, config), name, dtype: stored };
  }
  const names = [...Object.keys(architectures), ...Object.keys(countedModels)];
  const guess = nearest(type, names);
  throw new UserError(
    `${place}: key "model_type": "${type}" is not known, expected one of ${names.join(', ')}` +
      (guess ? ` (did you mean "${guess}"?)` : ''),
  );
}

/** The shape of a model that can be opened, by its parsed configuration. An encoder is counted alone: nothing here trains it. */
export function shapeOfNetwork(name: string, config: ModelConfig, dtype: StoredDType): ModelShape {
  const described = describe(config);
  return { ...config, ...described, name, dtype, config: described.network.lmHead && config };
}
