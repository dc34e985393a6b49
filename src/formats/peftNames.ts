/** The names of an adapter's tensors: here by site and part, in PEFT's file by what PEFT has them in. */

const SITE_PREFIX = 'base_model.model.';
const SHARED_PREFIX = 'base_model.';

/** A site's tensors, and what their names end with in the file. */
const PART_ENDS = {
  lora_A: '.lora_A.weight',
  lora_B: '.lora_B.weight',
  lora_bias: '.lora_B.bias',
  lora_embedding_A: '.lora_embedding_A',
  lora_embedding_B: '.lora_embedding_B',
  lora_magnitude_vector: '.lora_magnitude_vector',
  adalora_A: '.lora_A',
  adalora_E: '.lora_E',
  adalora_B: '.lora_B',
  vera_lambda_b: '.vera_lambda_b',
  vera_lambda_d: '.vera_lambda_d',
  miss_block: '.miss_block',
  hira_A: '.hira_A',
  hira_B: '.hira_B',
  hira_embedding_A: '.hira_embedding_A',
  hira_embedding_B: '.hira_embedding_B',
} as const;
export type AdapterPart = keyof typeof PART_ENDS;
const PARTS = Object.keys(PART_ENDS) as AdapterPart[];

/**
 * What an adapter holds of modules beside its sites' own tensors: rows of an embedding, full copies (modules_to_save) and
 * biases; and of embeddings and heads the base's own matrix, where PEFT adds it.
 */
const MODULE_PART_ENDS = {
  trainable_tokens_delta: '.token_adapter.trainable_tokens_delta',
  base_weight: '.base_layer.weight',
  weight: '.weight',
  bias: '.bias',
} as const;
export type ModulePart = keyof typeof MODULE_PART_ENDS;
const MODULE_PARTS = Object.keys(MODULE_PART_ENDS) as ModulePart[];
/** How the bias of a module that is a site ends. */
const SITE_BIAS = '.base_layer.bias';
/** Where PEFT keeps the base's own matrix of a module of which the adapter has a copy, or rows. */
const ORIGINAL_ENDS = ['.original_module.weight', '.token_adapter.base_layer.weight'];
/** What PEFT writes of a module with a copy of its own and does not read: the copy once more, and with bias="all" both biases. */
const UNREAD_ENDS = ['.modules_to_save.weight', '.modules_to_save.bias', '.original_module.bias'];

/** Tensors that all sites share. */
export const SHARED = ['vera_A', 'vera_B'];

/** The key of a site's tensor in Adapter.tensors, e.g. "model.layers.0.self_attn.q_proj.lora_A". */
export function adapterKey(site: string, part: AdapterPart): string {
  return `${site}.${part}`;
}

/** The site and part that adapterKey joined; undefined for any other text. */
export function splitAdapterKey(key: string): { site: string; part: AdapterPart } | undefined {
  const dot = key.lastIndexOf('.');
  const part = PARTS.find((p) => p === key.slice(dot + 1));
  return part === undefined || dot < 1 ? undefined : { site: key.slice(0, dot), part };
}

/** The module and part of a tensor that belongs to no site's method ("lm_head.weight"); undefined for any other text. */
export function splitModuleKey(key: string): { module: string; part: ModulePart } | undefined {
  const dot = key.lastIndexOf('.');
  const part = MODULE_PARTS.find((p) => p === key.slice(dot + 1));
  return part === undefined || dot < 1 ? undefined : { module: key.slice(0, dot), part };
}

/** The sites of an adapter, in the order of its tensors. */
export function adapterSites(tensors: ReadonlyMap<string, unknown>): string[] {
  return [...new Set([...tensors.keys()].flatMap((key) => splitAdapterKey(key)?.site ?? []))];
}

/** Whether PEFT takes a module for an embedding or a head, whose matrices it saves along. */
export function isEmbeddingName(module: string): boolean {
  return /(^|\.)(embed_tokens|lm_head)$/.test(module);
}

/** A name that shows what is expected, of a part. */
export function exampleName(part: AdapterPart): string {
  return `${SITE_PREFIX}<module>${PART_ENDS[part]}`;
}

/** The tensor's name in PEFT's file, beside what else the adapter holds: that says where PEFT keeps a module's own. */
export function peftFileName(key: string, tensors: ReadonlyMap<string, unknown> = new Map()): string {
  if (SHARED.includes(key)) return `${SHARED_PREFIX}${key}`;
  const split = splitAdapterKey(key);
  if (split) return `${SITE_PREFIX}${split.site}${PART_ENDS[split.part]}`;
  const own = splitModuleKey(key);
  if (!own) throw new Error(`"${key}" names no part of a site or module`);
  return `${SITE_PREFIX}${own.module}${moduleEnd(own.module, own.part, tensors)}`;
}

function moduleEnd(module: string, part: ModulePart, tensors: ReadonlyMap<string, unknown>): string {
  const isSite = PARTS.some((p) => tensors.has(adapterKey(module, p)));
  if (part === 'bias' && isSite) return SITE_BIAS;
  if (part !== 'base_weight' || isSite) return MODULE_PART_ENDS[part];
  if (tensors.has(`${module}.trainable_tokens_delta`)) return ORIGINAL_ENDS[1];
  return tensors.has(`${module}.weight`) ? ORIGINAL_ENDS[0] : MODULE_PART_ENDS.weight;
}

/** What wrappers of PyTorch put into names, and PEFT's name for the one adapter of a file. */
const WRAPPERS = /(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)/g;
const FRONT = /^(module\.)+/;
const ADAPTER_NAME = /\.default(?=$|\.weight$|\.bias$)/;

/**
 * The key of a tensor of PEFT's file; null for one that PEFT does not read, undefined for one that is none. `isCopy` says
 * of a module whether the adapter holds a copy of its own.
 */
export function keyOfFileName(name: string, isCopy: (module: string) => boolean): string | null | undefined {
  const bare = name
    .replace(WRAPPERS, '')
    .replace(/^\./, '')
    .replace(FRONT, '')
    .replace(ADAPTER_NAME, '')
    // As PEFT names it since 0.12, until it saves it.
    .replace(/\.lora_magnitude_vector\.weight$/, PART_ENDS.lora_magnitude_vector);
  const shared = SHARED.find((key) => bare === `${SHARED_PREFIX}${key}`);
  if (shared || !bare.startsWith(SITE_PREFIX)) return shared;
  const rest = bare.slice(SITE_PREFIX.length).replace(FRONT, '');
  const moduleBefore = (end: string) => (rest.endsWith(end) ? rest.slice(0, -end.length) : '');
  if (UNREAD_ENDS.some((end) => moduleBefore(end) !== '')) return null;
  for (const end of ORIGINAL_ENDS) {
    if (moduleBefore(end) !== '') return `${moduleBefore(end)}.base_weight`;
  }
  const part = PARTS.find((p) => moduleBefore(PART_ENDS[p]) !== '');
  if (part) return adapterKey(moduleBefore(PART_ENDS[part]), part);
  if (moduleBefore(SITE_BIAS) !== '') return `${moduleBefore(SITE_BIAS)}.bias`;
  const own = MODULE_PARTS.find((p) => moduleBefore(MODULE_PART_ENDS[p]) !== '');
  if (!own) return undefined;
  const module = moduleBefore(MODULE_PART_ENDS[own]);
  return own === 'weight' && isEmbeddingName(module) && !isCopy(module)
    ? `${module}.base_weight`
    : `${module}.${own}`;
}
