/** What to try a trained model with: the beginning of a row. */
import type { ChatMessage } from '../formats/chat.js';
import type { Forms } from '../train/data/form.js';
import { type RowContent, TEXT_FORMS } from '../train/data/forms.js';
import { instructionAsMessages, instructionAsPrompt } from '../train/data/instruction.js';
import type { PairContent } from '../train/data/pairForms.js';
import { streamRows } from '../train/data/rows.js';
import { formsOf } from '../train/objectives/named.js';
import type { Job } from './job.js';
import { readRun } from './runFolder.js';

/** A message for a chat template, or a text to continue. */
export type Opening = { chat: string; system?: string } | { prompt: string };

/** Longer texts are cut, so that a command line that holds one can be read. */
const MOST_CHARACTERS = 100;
/** Words of a row of text, where every token is learned. */
const FIRST_WORDS = 4;

/** Of the first row that a job holds out, or else trains on: what generation sees before what is learned of it. */
export async function openingOf(
  { data, evalData, objective }: Pick<Job, 'data' | 'evalData' | 'objective'>,
  hasChatTemplate: boolean,
): Promise<Opening | undefined> {
  const first = await firstRow((evalData ?? data)[0], objective?.name);
  return first && openingOfRow(first, hasChatTemplate);
}

/** The same of what an adapter was trained on, where it lies in its run's folder and the rows are still there. */
export async function openingOfRun(folder: string): Promise<Opening | undefined> {
  try {
    const { data, evalData, objective } = (await readRun(folder)).options;
    const [file] = [evalData ?? data].flat();
    const first = await firstRow(String(file), objective);
    return first && first.kind !== 'instruction' ? openingOfRow(first, false) : undefined;
  } catch {
    // A hint is worth no error.
  }
  return undefined;
}

/** The first row of a file, or of a pair of answers the preferred one. */
async function firstRow(path: string, objective: unknown): Promise<RowContent | undefined> {
  const forms = (formsOf(objective) ?? TEXT_FORMS) as Forms<RowContent | PairContent>;
  for await (const row of streamRows(path, forms)) return 'chosen' in row ? row.chosen : row;
  return undefined;
}

function openingOfRow(row: RowContent, hasChatTemplate: boolean): Opening {
  switch (row.kind) {
    case 'completion':
      return { prompt: shortened(row.prompt) };
    case 'messages':
      return openingOfChat(row.messages);
    case 'instruction':
      // Alpaca's prompt is one text with its frame, which a cut would break.
      return hasChatTemplate
        ? openingOfChat(instructionAsMessages(row).messages)
        : { prompt: instructionAsPrompt(row).prompt };
    case 'text':
      return { prompt: shortened(row.text.trim().split(/\s+/, FIRST_WORDS).join(' ')) };
  }
}

function openingOfChat(messages: readonly ChatMessage[]): Opening {
  const textOf = (role: string) => {
    const content = messages.find((message) => message.role === role)?.content;
    return typeof content === 'string' && content.trim() !== '' ? content : undefined;
  };
  const system = textOf('system');
  return {
    ...(system !== undefined && isShort(system) && { system }),
    chat: shortened(textOf('user') ?? 'Hello!'),
  };
}

function isShort(text: string): boolean {
  return text.length <= MOST_CHARACTERS && !text.includes('\n');
}

/** The first line, to the last word that fits. */
function shortened(text: string): string {
  if (isShort(text)) return text;
  const line = text.trimStart().split('\n', 1)[0].trimEnd();
  if (isShort(line)) return line;
  const head = [...line].slice(0, MOST_CHARACTERS).join('');
  return head.replace(/\s+\S*$/, '');
}
