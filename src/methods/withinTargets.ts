/** Which of the layers that an adapter's file holds are the adapter's, by its configuration. */
import { UserError } from '../base/errors.js';
import type { AdapterFiles } from '../formats/peft.js';
import type { PeftConfig } from '../formats/peftConfig.js';
import {
  adapterKey,
  adapterSites,
  isEmbeddingName,
  splitAdapterKey,
  splitModuleKey,
} from '../formats/peftNames.js';
import { given } from './layerOptions.js';
import { DEFAULT_TARGETS, type TargetChoice, targetTest } from './targets.js';

/**
 * Files without the layers that their configuration does not name: PEFT passes over these, and so they change nothing.
 * Throws UserError where none is left.
 */
export function withinTargets(
  place: string,
  files: AdapterFiles,
  onNotice?: (message: string) => void,
): AdapterFiles {
  const { config, tensors } = files;
  const isNamed = targetTest(choiceOf(config));
  const held = adapterSites(tensors);
  const embedding = held.find((name) => tensors.has(adapterKey(name, 'lora_embedding_A')));
  const isTarget = (name: string) =>
    isNamed(
      name === embedding
        ? { name, kind: 'embedding', role: 'embedding' }
        : { name, kind: 'linear', ...(isEmbeddingName(name) && { role: 'head' }) },
    );
  // The head of a tied pair is adapted with its embedding, by whose name it goes.
  const isTied = (name: string) =>
    config.peft_type === 'LORA' &&
    config.ensure_weight_tying &&
    isEmbeddingName(name) &&
    embedding !== undefined &&
    isTarget(embedding);
  const beyond = held.filter((name) => !isTarget(name) && !isTied(name));
  if (beyond.length === 0) return files;
  if (beyond.length === held.length) {
    throw new UserError(`${place}: its configuration's target_modules name none of the layers that it holds`);
  }
  const [first, ...others] = beyond;
  const more = others.length > 0 ? ` and ${others.length} more` : '';
  onNotice?.(
    `${place}: its configuration does not name ${first}${more}, so their matrices are left out, as in PEFT`,
  );
  const isLeftOut = (key: string) =>
    beyond.includes((splitAdapterKey(key)?.site ?? splitModuleKey(key)?.module)!);
  return { ...files, tensors: new Map([...tensors].filter(([key]) => !isLeftOut(key))) };
}

/** Which layers a configuration names. */
function choiceOf(config: PeftConfig): TargetChoice {
  const listed = <T>(value: T | readonly T[]) =>
    Array.isArray(value) ? (value as readonly T[]) : [value as T];
  const { target_modules: targets, layers_to_transform: layers, layers_pattern: patterns } = config;
  return {
    targetModules: targets ?? DEFAULT_TARGETS,
    ...given(
      'excludeModules',
      'exclude_modules' in config ? (config.exclude_modules ?? undefined) : undefined,
    ),
    ...given('layersToTransform', layers === null ? undefined : listed(layers)),
    ...given('layersPattern', patterns === null ? undefined : listed(patterns)),
    ...given('modulesToSave', config.modules_to_save ?? undefined),
  };
}
