/** What of a conversation its chat template passes over, so that the model never sees it. */
import type { ChatMessage } from '../../formats/chat.js';
import type { RowContent } from './forms.js';

type Conversation = Pick<Extract<RowContent, { kind: 'messages' }>, 'messages' | 'tools'>;

/** Those that a template reads under other names, and those that only tie a result to its call. */
const REASONING = ['reasoning_content', 'thinking', 'reasoning'];
const ALWAYS = ['role', 'content', 'tool_call_id', 'name'];

/** Finds the keys that templates do not read, each once. */
export class UnreadKeys {
  private readonly tried = new Set<string>(ALWAYS);

  /**
   * The names of keys that were not met before, that `template` does not name, and without which it writes the same.
   * `write` renders a conversation by it.
   */
  of(
    { messages, tools }: Conversation,
    template: string,
    write: (conversation: Conversation) => string,
  ): string[] {
    const keys = [...new Set(messages.flatMap(keysOf)), ...(tools ? ['tools'] : [])];
    const unnamed = keys.filter((key) => {
      if (this.tried.has(key)) return false;
      this.tried.add(key);
      return !(REASONING.includes(key) ? REASONING : [key]).some((name) => template.includes(name));
    });
    return unnamed.filter((key) => {
      const without =
        key === 'tools' ? { messages } : { messages: messages.map((turn) => leftOut(turn, key)), tools };
      try {
        // A template may write a whole message, with keys that it does not name.
        return write(without) === write({ messages, tools });
      } catch {
        return false;
      }
    });
  }
}

function keysOf(turn: ChatMessage): string[] {
  return Object.keys(turn).filter((key) => (turn[key] ?? null) !== null);
}

function leftOut(turn: ChatMessage, key: string): ChatMessage {
  return Object.fromEntries(Object.entries(turn).filter(([name]) => name !== key)) as ChatMessage;
}

/** Whether a text has all of what a turn says, blanks aside: templates cut thoughts out of an answer. */
export function holds(text: string, { content }: ChatMessage): boolean {
  return withoutBlanks(text).includes(withoutBlanks(content ?? ''));
}

function withoutBlanks(text: string): string {
  return text.replace(/\s+/g, '');
}
