/** Options by PEFT's names of which layers are adapted, and of what trains whole beside them. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { PeftAdaloraConfig, PeftLoraConfig } from '../formats/peftConfig.js';
import type { Extras } from './extras.js';
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
    .default('all-linear')
    .describe(
      'layers to adapt: names, roles as attention.q, a regular expression for whole names, or all-linear',
    ),
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

/** What LoRA and its descendants have beside those. */
export const loraLayerShape = {
  ...layerShape,
  exclude_modules: targetsShape.optional().describe('layers to leave out, named as the targets are'),
  bias: z
    .enum(['none', 'all', 'lora_only'])
    .default('none')
    .describe("which of the model's own biases train: none, all, or those of the adapted layers"),
  trainable_token_indices: z
    .union(
      [z.array(z.int().nonnegative()), numbersText, z.record(z.string(), z.array(z.int().nonnegative()))],
      'expected token ids, as 5,17, or JSON as {"lm_head": [5, 17]}',
    )
    .optional()
    .describe('tokens whose rows of the embedding train, as 5,17, or lists by module as JSON'),
};
const loraLayerOptions = z.object(loraLayerShape);

/** The choice that checked options make. Throws UserError, prefixed with `place`, where two contradict. */
export function layerChoice(
  place: string,
  c: z.output<typeof layerOptions> & Partial<Pick<z.output<typeof loraLayerOptions>, 'exclude_modules'>>,
): TargetChoice {
  const layers = numbersOf(c.layers_to_transform);
  const choice: TargetChoice = {
    targetModules: parseTargets(c.target_modules),
    ...given('excludeModules', c.exclude_modules && parseTargets(c.exclude_modules)),
    ...given('layersToTransform', layers),
    ...given('layersPattern', patternsOf(c.layers_pattern)),
    ...given('modulesToSave', namesOf(c.modules_to_save)),
  };
  const { targetModules, layersToTransform, layersPattern } = choice;
  if (layersPattern && !layersToTransform) {
    throw new UserError(`${place}: layers_pattern needs layers_to_transform`);
  }
  if (typeof targetModules === 'string' && targetModules !== 'all-linear' && layersToTransform) {
    throw new UserError(
      `${place}: layers_to_transform needs target_modules by name, not "${targetModules}", as PEFT has it`,
    );
  }
  return choice;
}

/** The same with what LoRA and its descendants have beside it. */
export function loraLayerChoice(place: string, c: z.output<typeof loraLayerOptions>): TargetChoice & Extras {
  const { trainable_token_indices: tokens } = c;
  return {
    ...layerChoice(place, c),
    bias: c.bias,
    ...given('trainableTokenIndices', typeof tokens === 'string' ? numbersOf(tokens) : tokens),
  };
}

/** That in PEFT's words. */
export function loraLayersToPeft(c: TargetChoice & Extras) {
  const { trainableTokenIndices: tokens } = c;
  return {
    ...layersToPeft(c),
    bias: c.bias,
    ...given('ensure_weight_tying', c.ensureWeightTying),
    ...given('trainable_token_indices', tokens as PeftLoraConfig['trainable_token_indices']),
  };
}

/** And of PEFT's, for the sites that were saved: they decide, not the patterns that named them or left them out. */
export function loraLayersFromPeft(
  peft: PeftLoraConfig | PeftAdaloraConfig,
  sites: readonly string[],
): TargetChoice & Extras {
  return {
    targetModules: sites,
    bias: peft.bias,
    ...given('fanInFanOut', peft.fan_in_fan_out || undefined),
    ...given('modulesToSave', peft.modules_to_save?.length ? peft.modules_to_save : undefined),
    ...given('ensureWeightTying', (peft.peft_type === 'LORA' && peft.ensure_weight_tying) || undefined),
    ...given('trainableTokenIndices', peft.trainable_token_indices ?? undefined),
  };
}

/** A choice in PEFT's words. */
export function layersToPeft(c: TargetChoice) {
  const { targetModules, excludeModules: exclude, layersToTransform, layersPattern, modulesToSave } = c;
  return {
    target_modules: typeof targetModules === 'string' ? targetModules : [...targetModules],
    ...given('exclude_modules', typeof exclude === 'object' ? [...exclude] : exclude),
    ...given('layers_to_transform', layersToTransform && [...layersToTransform]),
    ...given('layers_pattern', layersPattern && [...layersPattern]),
    ...given('fan_in_fan_out', c.fanInFanOut),
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
