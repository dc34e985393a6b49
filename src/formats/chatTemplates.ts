/** Chat templates in the files of a folder, a model's or an adapter's. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { type ChatTemplates, checkTemplate, listedTemplates, listedTemplatesSchema } from './chat.js';
import { decodeUtf8 } from './io/json.js';
import { exists, readFully, readJson, withFile } from './io/node.js';

const MAX_TEMPLATE_BYTES = 1 << 20;

/** Where a folder has templates beside the one that is used for most. */
export const TEMPLATE_FOLDER = 'additional_chat_templates';
export const TEMPLATE_FILES = {
  plain: 'chat_template.jinja',
  toolUse: `${TEMPLATE_FOLDER}/tool_use.jinja`,
} as const;

const CONFIG = 'tokenizer_config.json';
const configSchema = z.looseObject({ chat_template: listedTemplatesSchema });

/**
 * The templates of a folder: those in files of their own, which replace what tokenizer_config.json says, as in
 * transformers. Undefined where there are none. Throws UserError that names the file.
 */
export async function readChatTemplates(folder: string): Promise<ChatTemplates | undefined> {
  const file = join(folder, TEMPLATE_FILES.plain);
  const plain = (await exists(file)) ? await readText(file) : undefined;
  const calls = join(folder, TEMPLATE_FILES.toolUse);
  const toolUse = (await exists(calls)) ? await readText(calls) : undefined;
  if (plain !== undefined || toolUse !== undefined) return { plain, toolUse, file };
  const config = join(folder, CONFIG);
  if (!(await exists(config))) return undefined;
  return listedTemplates((await readJson(config, configSchema)).chat_template, config);
}

/** A template in a file that somebody names. Throws UserError where it cannot be read, or is no template. */
export async function readChatTemplate(file: string): Promise<ChatTemplates> {
  const plain = await readText(file);
  if (plain.trim() === '') throw new UserError(`${file} is empty, expected a chat template`);
  checkTemplate(plain, file);
  return { plain, file };
}

/** Whether they write the same. */
export function sameTemplates(a: ChatTemplates | undefined, b: ChatTemplates | undefined): boolean {
  return a?.plain === b?.plain && a?.toolUse === b?.toolUse;
}

/** Writes them into a folder, in the place of any that are there. */
export async function writeChatTemplates(folder: string, templates: ChatTemplates): Promise<void> {
  await rm(join(folder, TEMPLATE_FOLDER), { recursive: true, force: true });
  for (const kind of ['plain', 'toolUse'] as const) {
    const text = templates[kind];
    if (text === undefined) continue;
    const path = join(folder, TEMPLATE_FILES[kind]);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
}

function readText(path: string): Promise<string> {
  return withFile(path, async (file, size) => {
    if (size > MAX_TEMPLATE_BYTES)
      throw new UserError(`${path} has ${size} bytes, more than a chat template may have`);
    const bytes = new Uint8Array(size);
    await readFully(file, path, bytes, 0);
    return decodeUtf8(path, bytes);
  });
}
