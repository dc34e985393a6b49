/** Which of a repository's files are needed. */
import { UserError } from '../../base/errors.js';
import { RECIPE_FILE } from '../quant/recipe.js';
import { SENTENCE_FILES } from '../sentenceModules.js';
import { TASK_FILE } from '../taskFile.js';
import { TOKENIZER_FILES } from '../tokenizer.js';

export type HubKind = 'model' | 'adapter';

/** What a model's folder has beside its weights; taken where it is there. */
const MODEL_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'chat_template.jinja',
  'additional_chat_templates/tool_use.jinja',
  'chat_template.json',
  ...SENTENCE_FILES,
];
export const SINGLE = 'model.safetensors';
export const INDEX = 'model.safetensors.index.json';
const ADAPTER_FILES = ['adapter_config.json', 'adapter_model.safetensors'];

/** Whether a repository is an adapter or a model, by its files. */
export function kindOf(names: ReadonlySet<string>): HubKind {
  return names.has(ADAPTER_FILES[0]) && !names.has(SINGLE) && !names.has(INDEX) ? 'adapter' : 'model';
}

/**
 * The files to fetch at once, small ones first; of a model in shards the index, whose shards come after.
 * @throws UserError where the repository holds no such thing in a form that is read; it says what is there instead.
 */
export function neededFiles(place: string, names: ReadonlySet<string>, kind: HubKind): string[] {
  return kind === 'adapter' ? adapterFiles(place, names) : modelFiles(place, names);
}

function adapterFiles(place: string, names: ReadonlySet<string>): string[] {
  const [config, weights] = ADAPTER_FILES;
  if (!names.has(config)) throw new UserError(`${place} is not an adapter: it has no ${config}`);
  if (names.has(weights)) {
    return [
      ...ADAPTER_FILES,
      ...[RECIPE_FILE, TASK_FILE, ...TOKENIZER_FILES].filter((name) => names.has(name)),
    ];
  }
  const pickled = names.has('adapter_model.bin');
  throw new UserError(
    `${place} has no ${weights}${pickled ? ', only adapter_model.bin: PyTorch pickles are not read' : ''}`,
  );
}

function modelFiles(place: string, names: ReadonlySet<string>): string[] {
  const weights = [SINGLE, INDEX].find((name) => names.has(name));
  if (weights !== undefined && names.has('config.json')) {
    return [...MODEL_FILES.filter((name) => names.has(name)), weights];
  }
  if (weights !== undefined) throw new UserError(`${place} has weights but no config.json`);
  const ending = (end: string) => [...names].filter((name) => name.endsWith(end));
  const [gguf, pickles] = [ending('.gguf'), [...ending('.bin'), ...ending('.pt'), ...ending('.pth')]];
  if (gguf.length > 0) {
    throw new UserError(
      `${place} has no ${SINGLE}, but GGUF files; name one of them, as hf:${place.replace(/@.*/, '')}/${gguf[0]}`,
    );
  }
  if (pickles.length > 0) {
    throw new UserError(
      `${place} has its weights only as PyTorch pickles (${pickles[0]}), which are not read; expected ${SINGLE}`,
    );
  }
  if (names.has(ADAPTER_FILES[0])) throw new UserError(`${place} is an adapter, not a model`);
  throw new UserError(`${place} has neither ${SINGLE} nor ${INDEX}`);
}
