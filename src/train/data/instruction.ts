/** Alpaca's rows, as the conversation or as the prompt that other tools make of them. */
import type { ChatMessage } from '../../formats/chat.js';
import type { RowContent } from './forms.js';

type Instruction = Extract<RowContent, { kind: 'instruction' }>;

/** One turn each way; the input stands below the instruction, as LLaMA-Factory puts it. */
export function instructionAsMessages({ system, instruction, input, output }: Instruction): {
  messages: ChatMessage[];
} {
  const turns = [
    { role: 'user', content: input === '' ? instruction : `${instruction}\n${input}` },
    { role: 'assistant', content: output },
  ];
  return { messages: system === undefined ? turns : [{ role: 'system', content: system }, ...turns] };
}

/** Stanford Alpaca's own prompts (github.com/tatsu-lab/stanford_alpaca). A system text takes their first lines' place. */
export function instructionAsPrompt({ system, instruction, input, output }: Instruction): {
  prompt: string;
  completion: string;
} {
  const first = system ?? (input === '' ? ALONE : WITH_INPUT);
  const given = input === '' ? '' : `### Input:\n${input}\n\n`;
  const prompt = `${first}\n\n### Instruction:\n${instruction}\n\n${given}### Response:\n`;
  return { prompt, completion: output };
}

const ALONE =
  'Below is an instruction that describes a task. Write a response that appropriately completes the request.';
const WITH_INPUT =
  'Below is an instruction that describes a task, paired with an input that provides further context. ' +
  'Write a response that appropriately completes the request.';
