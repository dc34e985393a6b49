/** Options by PEFT's names of which layers are adapted, and of what trains whole beside them. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { parseTargets, type TargetChoice, type TargetModules } from './targets.js';

/** Names, which may be one text with commas. */
const name = z.string().regex(/^[\w.]+$/);
const nameList = z
  .union([z.array(name), z.string().regex(/^[\w.]+(,[\w.]+)*$/)], 'expected names, as norm,lm_head')
  .meta({ valueName: 'names' })
  .optional();

/** Numbers with commas. */
export const numbersText = z.string().regex(/^\d+(,\d+)*$/);
/** Names, or a pattern of whole names. */
export const targetsShape = z
  .union([z.string().min(1), z.array(name)], 'expected names, as q_proj,v_proj, or a regular expression')
  .meta({ valueName: 'names' });

export const layerShape = {
  target_modules: targetsShape
    .default(['q_proj', 'v_proj'])
    .describe('layers to adapt: names, a regular expression for whole names, or all-linear'),
  layers_to_transform: z
    .union(
      [z.int().nonnegative(), z.array(z.int().nonnegative()), numbersText],
      'expected numbers of layers, as 0,1,5',
    )
    .optional()
    .describe('numbers of the layers to adapt, as 0,1,5 (with targets by name)'),
  layers_pattern: targetsShape
    .optional()
    .describe('what numbered layers are called, names or a regular expression (default: anything)'),
  modules_to_save: nameList.describe(
    'modules that train whole, as norm,lm_head, in copies kept with the adapter',
  ),
};
const layerOptions = z.object(layerShape);

/** The choice that checked options make. Throws UserError, prefixed with `place`, where two contradict. */
export function layerChoice(place: string, c: z.output<typeof layerOptions>): TargetChoice {
  const choice: TargetChoice = {
    targetModules: parseTargets(c.target_modules),
    ...given('layersToTransform', numbersOf(c.layers_to_transform)),
    ...given('layersPattern', patternsOf(c.layers_pattern)),
    ...given('modulesToSave', namesOf(c.modules_to_save)),
  };
  const { targetModules, layersToTransform, layersPattern } = choice;
  if (typeof targetModules === 'string' && (layersToTransform || layersPattern)) {
    throw new UserError(
      `${place}: layers_to_transform needs target_modules by name, not "${targetModules}", as PEFT has it`,
    );
  }
  if (layersPattern && !layersToTransform) {
    throw new UserError(`${place}: layers_pattern needs layers_to_transform`);
  }
  return choice;
}

/** The same in PEFT's words. */
export function layersToPeft(c: TargetChoice) {
  const { targetModules, layersToTransform, layersPattern, modulesToSave } = c;
  return {
    target_modules: typeof targetModules === 'string' ? targetModules : [...targetModules],
    ...given('layers_to_transform', layersToTransform && [...layersToTransform]),
    ...given('layers_pattern', layersPattern && [...layersPattern]),
    ...given('modules_to_save', modulesToSave && [...modulesToSave]),
  };
}

/** A key that is there only with a value, so that a configuration is the same whether or not it passed through JSON. */
export function given<K extends string, V>(key: K, value: V | undefined): { [key in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [key in K]?: V };
}

const namesOf = (names: string | readonly string[] | undefined) =>
  typeof names === 'string' ? names.split(',') : names;

/** A text that is no list of names is one expression. */
const patternsOf = (patterns: TargetModules | undefined) => {
  const parsed = patterns === undefined ? undefined : parseTargets(patterns);
  return typeof parsed === 'string' ? [parsed] : parsed;
};

export const numbersOf = (values: string | number | readonly number[] | undefined) => {
  if (typeof values === 'number') return [values];
  return typeof values === 'string' ? values.split(',').map(Number) : values;
};
