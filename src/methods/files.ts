import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { readAdapter, writeAdapter } from '../formats/peft.js';
import type { BaseModel } from '../models/base.js';
import type { Adapter } from './adapter.js';
import { type LoraConfig, lora, toPeft } from './lora.js';
import type { Method } from './method.js';

/** Writes an adapter as a PEFT folder into `folder`, which exists (see writeFolderAtomic). */
export async function writeAdapterFolder(folder: string, adapter: Adapter, baseName: string): Promise<void> {
  if (adapter.method.name !== lora.name) {
    throw new UserError(`method ${adapter.method.name} has no adapter to save: its result is a whole model`);
  }
  const config = { ...toPeft(adapter.config as LoraConfig), base_model_name_or_path: baseName };
  const tensors = new Map([...adapter.values].map(([name, t]) => [name, { shape: t.dims, data: t.data }]));
  await writeAdapter(folder, config, tensors);
}

/**
 * Reads a PEFT LoRA folder for a model. Throws UserError where the adapter is not for this model: a site that
 * the model has not, or matrices of another size.
 */
export async function loadAdapterFolder(folder: string, model: BaseModel): Promise<Adapter> {
  const { config: peft, tensors } = await readAdapter(folder);
  const sites = [...new Set([...tensors.keys()].map((key) => key.slice(0, key.lastIndexOf('.'))))];
  for (const name of sites) {
    const site = model.sites.find((s) => s.name === name);
    const made = `${folder} was made for another base than ${model.folder}`;
    if (!site) throw new UserError(`${made}: the model has no layer ${name}`);
    const inSize = tensors.get(`${name}.lora_A`)!.shape[1];
    const outSize = tensors.get(`${name}.lora_B`)!.shape[0];
    if (inSize !== site.in || outSize !== site.out) {
      throw new UserError(
        `${made}: ${name} is ${site.out} × ${site.in} there, the adapter expects ${outSize} × ${inSize}`,
      );
    }
  }
  const config: LoraConfig = {
    r: peft.r,
    loraAlpha: peft.lora_alpha,
    loraDropout: peft.lora_dropout,
    // What was saved decides, not what the config's patterns would match here.
    targetModules: sites,
    rankPattern: peft.rank_pattern,
    alphaPattern: peft.alpha_pattern,
    useRslora: peft.use_rslora,
    initLoraWeights: typeof peft.init_lora_weights === 'boolean' ? peft.init_lora_weights : 'gaussian',
  };
  return {
    method: lora as unknown as Method<unknown>,
    config,
    trainables: lora.select(config, model),
    values: new Map([...tensors].map(([name, t]) => [name, f32(t.data, t.shape)])),
  };
}
