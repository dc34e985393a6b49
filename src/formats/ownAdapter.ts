/**
 * Adapters that are not of PEFT's kind for layers: a folder of the same two files, whose `peft_type` says what it is and
 * whose tensors go by the method's own names.
 */
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { encodeF32 } from './float16.js';
import { exists, readJson } from './io/node.js';
import { writeFileAtomic } from './io/write.js';
import type { AdapterTensor } from './peft.js';
import { readFinite, readSafetensorsHeader, type TensorEntry, writeSafetensors } from './safetensors.js';

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';

const configSchema = z.looseObject({
  peft_type: z.string(),
  base_model_name_or_path: z.string().nullable().default(null),
});

/** What adapter_config.json of such a folder says. */
export type OwnConfig = z.output<typeof configSchema>;

/** The configuration of a folder whose `peft_type` is one of `types`; undefined for any other folder. */
export async function readOwnConfig(
  folder: string,
  types: readonly string[],
): Promise<OwnConfig | undefined> {
  const path = join(folder, CONFIG);
  if (!(await exists(path))) return undefined;
  const raw = await readJson(path, z.unknown());
  const config = configSchema.safeParse(raw);
  return config.success && types.includes(config.data.peft_type) ? config.data : undefined;
}

/** All tensors of such a folder, as float32. Throws UserError where the file is missing or broken. */
export async function readOwnTensors(folder: string): Promise<Map<string, AdapterTensor>> {
  const path = join(folder, WEIGHTS);
  if (!(await exists(path))) throw new UserError(`${folder} has no ${WEIGHTS}`);
  const tensors = new Map<string, AdapterTensor>();
  for (const info of (await readSafetensorsHeader(path)).tensors.values()) {
    tensors.set(info.name, { shape: info.shape, data: await readFinite(info) });
  }
  return tensors;
}

/** Writes the two files into `folder`, which exists (see writeFolderAtomic). */
export async function writeOwnAdapter(
  folder: string,
  config: OwnConfig,
  tensors: ReadonlyMap<string, AdapterTensor>,
): Promise<void> {
  const entries = [...tensors].map(
    ([name, { shape, data }]): TensorEntry => ({
      name,
      dtype: 'F32',
      shape,
      data: () => encodeF32(data, 'float32'),
    }),
  );
  await writeSafetensors(join(folder, WEIGHTS), entries, { format: 'pt' });
  await writeFileAtomic(join(folder, CONFIG), `${JSON.stringify(config, null, 2)}\n`);
}
