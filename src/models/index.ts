import * as z from 'zod';
import { nearest, UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { taskOfConfig } from '../formats/task.js';
import { type Architecture, type Network, withTask } from './architecture.js';
import { bert } from './bert.js';
import { deberta_v2 } from './deberta-v2.js';
import { distilbert } from './distilbert.js';
import { gemma } from './gemma.js';
import { gemma2 } from './gemma2.js';
import { gemma3_text } from './gemma3_text.js';
import { gpt_neox } from './gpt_neox.js';
import { gpt2 } from './gpt2.js';
import { granite } from './granite.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { mixtral } from './mixtral.js';
import type { ModelConfig } from './model.js';
import { modernbert } from './modernbert.js';
import { olmo2 } from './olmo2.js';
import { phi3 } from './phi3.js';
import { qwen2 } from './qwen2.js';
import { qwen3 } from './qwen3.js';
import { qwen3_moe } from './qwen3_moe.js';
import { roberta } from './roberta.js';
import { smollm3 } from './smollm3.js';
import { xlm_roberta } from './xlm-roberta.js';

/** Every architecture, by the `model_type` of config.json. */
export const architectures: Record<string, Architecture> = {
  llama,
  mistral,
  qwen2,
  qwen3,
  mixtral,
  qwen3_moe,
  smollm3,
  granite,
  olmo2,
  phi3,
  gemma,
  gemma2,
  gemma3_text,
  gpt2,
  gpt_neox,
  bert,
  roberta,
  'xlm-roberta': xlm_roberta,
  distilbert,
  'deberta-v2': deberta_v2,
  modernbert,
};

/** Reads a parsed config.json by its `model_type`. `place` names the file in errors. */
export function parseModelConfig(place: string, config: unknown): ModelConfig {
  const { model_type: type } = checkJson(place, config, z.looseObject({ model_type: z.string() }));
  const architecture = Object.hasOwn(architectures, type) ? architectures[type] : undefined;
  if (!architecture) {
    const names = Object.keys(architectures);
    const guess = nearest(type, names);
    throw new UserError(
      `${place}: key "model_type": "${type}" is not supported, expected one of ${names.join(', ')}` +
        (guess ? ` (did you mean "${guess}"?)` : ''),
    );
  }
  const parsed = architecture.parse(place, config);
  const task = taskOfConfig(place, config);
  return task ? { ...parsed, task } : parsed;
}

/** The network of a configuration that parseModelConfig gave. */
export function networkOf(config: ModelConfig): Network {
  const network = architectures[config.modelType].network(config);
  return config.task ? withTask(network, config.task) : network;
}
