/** Chat templates that come with adapters: those that they were trained with, where these are not the model's. */
import type { ChatTemplates } from '../formats/chat.js';
import { readChatTemplates, sameTemplates, writeChatTemplates } from '../formats/chatTemplates.js';
import type { TokenizerOf } from '../formats/tokenizer.js';
import type { Adapter } from '../methods/adapter.js';
import type { LocateOptions } from './locate.js';

/**
 * An adapter that `path` names and that was read from `folder`, with the chat template that it is used with: the one
 * that was `given`, which `own` then has, else the one in its folder, else the model's. Tells where it is not the model's.
 */
export async function withTemplateOf(
  path: string,
  folder: string,
  adapter: Adapter,
  own: TokenizerOf,
  { given, onNotice }: Pick<LocateOptions, 'onNotice'> & { given?: string },
): Promise<Adapter> {
  const brought = await readChatTemplates(folder);
  const { chatTemplates } = own.tokenizer;
  if (brought && !sameTemplates(brought, chatTemplates)) {
    onNotice?.(
      given === undefined
        ? `${path}: its own chat template is used, not the model's`
        : `${path}: its chat template is not used, ${given} is`,
    );
  }
  const base = adapter.tokenizer ?? own;
  const wanted = given === undefined && brought ? brought : chatTemplates;
  if (sameTemplates(wanted, base.tokenizer.chatTemplates)) return adapter;
  return { ...adapter, tokenizer: { ...base, tokenizer: base.tokenizer.withTemplates(wanted) } };
}

/** Puts the chat templates that an adapter is used with into its written folder, where they are not those of its model. */
export async function recordTemplates(
  folder: string,
  templates: ChatTemplates,
  ofModel: ChatTemplates,
): Promise<void> {
  const known = (await readChatTemplates(folder)) ?? ofModel;
  if (!sameTemplates(templates, known)) await writeChatTemplates(folder, templates);
}
