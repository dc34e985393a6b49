import type { ChatTemplates } from '../formats/chat.js';
import type { BaseRecipe } from '../formats/quant/recipe.js';
import type { Device } from '../graph/op.js';
import type { StartOptions } from '../methods/adapter.js';
import type { BaseOptions } from './quantizedBase.js';
import type { TaskInput } from './task.js';

export interface LoadOptions extends BaseOptions {
  /** What it is to answer instead of the next token; default: what its config.json says. A new head starts at random. */
  task?: TaskInput & { labelsOf?: () => Promise<readonly string[]> };
  device?: Device;
  /** Threads of the CPU provider; default: one a physical core. */
  threads?: number;
  /** A file with a chat template (Jinja), which takes the place of the model's and of its adapters' own. */
  chatTemplate?: string;
}

/** Where a model comes from. */
export interface ModelSource {
  /** The chat templates that lie with it. */
  templates: ChatTemplates;
  /** What adapters record as their base; null where nothing that stays holds it. */
  name: string | null;
  /** Of a quantized one: where its original lies, if that is known, and how it was quantized. */
  original?: string;
  recipe?: BaseRecipe;
}

/** How an adapter is put on a model. */
export interface AdapterOptions {
  /** By which it is chosen, saved and deleted; one of that name is replaced. Default: "default". */
  name?: string;
}

/** How a new adapter starts. Some methods factor every matrix for it: what they tell, and what ends them. */
export interface AddOptions extends AdapterOptions, StartOptions {
  seed?: number;
}
