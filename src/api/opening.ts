/** What to try a trained model with: the beginning of a row. */
import type { ChatMessage } from '../formats/chat.js';
import { TEXT_FORMS } from '../train/data/forms.js';
import { instructionAsMessages, instructionAsPrompt } from '../train/data/instruction.js';
import { type Row, streamRows } from '../train/data/rows.js';
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
  { data, evalData }: Pick<Job, 'data' | 'evalData'>,
  hasChatTemplate: boolean,
): Promise<Opening | undefined> {
  for await (const row of streamRows((evalData ?? data)[0], TEXT_FORMS))
    return openingOfRow(row, hasChatTemplate);
  return undefined;
}

/** The same of what an adapter was trained on, where it lies in its run's folder and the rows are still there. */
export async function openingOfRun(folder: string): Promise<Opening | undefined> {
  try {
    const { data, evalData } = (await readRun(folder)).options;
    const [first] = [evalData ?? data].flat();
    for await (const row of streamRows(String(first), TEXT_FORMS)) {
      return row.kind === 'instruction' ? undefined : openingOfRow(row, false);
    }
  } catch {
    // A hint is worth no error.
  }
  return undefined;
}

function openingOfRow(row: Row, hasChatTemplate: boolean): Opening {
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
