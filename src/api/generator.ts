import { basename } from 'node:path';
import { UserError } from '../base/errors.js';
import { type ChatMessage, renderChat } from '../formats/chat.js';
import { type GenerationSettings, parseGenerationConfig } from '../formats/generationConfig.js';
import { checkConversation } from '../formats/messages.js';
import { StreamDecoder, type Tokenizer } from '../formats/tokenizer.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import type { Adapter } from '../methods/adapter.js';
import type { BaseModel } from '../models/base.js';
import { DecodeStep } from '../serve/decode.js';
import {
  type FinishReason,
  type GenerateInput,
  type GenerateOptions,
  generateTokens,
  parseGenerateOptions,
  textOf,
} from '../serve/generate.js';
import { keepsDecoder, type SampleEvent, type SampleOptions, type SamplePrompt } from './samples.js';

/** Text to be continued as it is, or a chat. */
export type Prompt = string | readonly ChatMessage[];

/** How to generate, and for a chat which tools there are, as OpenAI describes functions. */
export interface PromptOptions extends GenerateInput {
  tools?: readonly unknown[];
}

/** How a generation went. */
export interface GenerationEnd {
  reason: FinishReason;
  promptTokens: number;
  /** Tokens generated, the one that ended it not counted. */
  tokens: number;
}

/** A model's generation_config.json; empty where there is none. */
export interface GenerationConfig {
  place: string;
  content: Record<string, unknown>;
  onNotice?: (message: string) => void;
}

/** What a model computes with at the moment. */
export interface Active {
  base: BaseModel;
  adapter: Adapter | undefined;
  merged: boolean;
}

/** Generates with a model, and keeps the compiled step from one generation to the next while it fits. */
export class Generator {
  private step: DecodeStep | undefined;
  private known: GenerationSettings | undefined;

  constructor(
    private readonly runtime: Runtime,
    private readonly tokenizer: Tokenizer,
    private readonly session: SessionOptions,
    /** Asked anew at each generation. */
    private readonly active: () => Active,
    private readonly config: GenerationConfig,
  ) {}

  /** Token ids of a prompt; a chat goes through the model's template. Throws UserError on a chat without one. */
  encode(prompt: Prompt, tools?: readonly unknown[]): number[] {
    if (typeof prompt === 'string') {
      if (tools) throw new UserError('tools belong to a chat: give the prompt as messages');
      return this.tokenizer.encode(prompt);
    }
    const template = this.tokenizer.chatTemplate;
    if (!template) {
      const { folder } = this.active().base;
      throw new UserError(`${basename(folder)} has no chat template; give the prompt as text`);
    }
    const chat = checkConversation('the chat', { messages: prompt, tools });
    const options = { addGenerationPrompt: true, tools: chat.tools, ...this.tokenizer.texts() };
    const text = renderChat(template, chat.messages, options);
    return this.tokenizer.encode(text, { addSpecialTokens: false });
  }

  /** Pieces of text that follow the prompt's ids, as they come. */
  async *stream(
    ids: readonly number[],
    options: GenerateInput,
    { signal, prepack }: { signal?: AbortSignal; prepack?: boolean } = {},
  ): AsyncGenerator<string, GenerationEnd, void> {
    const parsed = this.options(options, ids.length);
    const { base } = this.active();
    const step = await this.decoder(prepack);
    const decoder = new StreamDecoder(this.tokenizer, { after: ids });
    const tokens = generateTokens(step, base.config, ids, parsed, this.tokenizer.eosIds, signal);
    let count = 0;
    const push = (id: number) => {
      count++;
      return decoder.push(id);
    };
    const reason = yield* textOf(tokens, { push, end: () => decoder.flush() }, parsed.stop);
    return { reason, promptTokens: ids.length, tokens: count };
  }

  /** Options with the model's own settings where they leave something open. */
  private options(given: GenerateInput, promptTokens: number): GenerateOptions {
    const { settings } = this.settings();
    return parseGenerateOptions('generation options', given, settings, promptTokens);
  }

  /** The model's own settings; what of them is not followed is said once. */
  private settings(): GenerationSettings {
    if (!this.known) {
      this.known = parseGenerationConfig(this.config.place, this.config.content);
      const { ignored } = this.known;
      if (ignored.length > 0) {
        this.config.onNotice?.(`${this.config.place}: not followed here: ${ignored.join(', ')}`);
      }
    }
    return this.known;
  }

  /** A generation for each prompt, with the adapter as it is; none of one that was interrupted. */
  async *samples(
    step: number,
    prompts: readonly SamplePrompt[],
    { sampleMaxTokens: maxNewTokens }: SampleOptions,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<SampleEvent, void, void> {
    const { base, merged } = this.active();
    const keep = keepsDecoder(base) && !merged;
    for (const { prompt, ids } of prompts) {
      const pieces = this.stream(ids, { maxNewTokens, temperature: 0 }, { signal, prepack: keep });
      let text = '';
      let next = await pieces.next();
      for (; !next.done; next = await pieces.next()) text += next.value;
      if (next.value.reason === 'aborted') break;
      yield { kind: 'sample', step, prompt, text, tokens: next.value.tokens };
    }
    if (!keep) await this.drop();
  }

  /** Frees the compiled step. */
  async drop(): Promise<void> {
    const { step } = this;
    this.step = undefined;
    await step?.close();
  }

  /** The compiled step for what is active. An adapter that computes by the same graph as the last only brings its values. */
  private async decoder(prepack = true): Promise<DecodeStep> {
    const { base, adapter, merged } = this.active();
    if (await this.step?.useAdapter(adapter, merged)) return this.step!;
    await this.drop();
    this.step = await DecodeStep.create(this.runtime, base, adapter, { ...this.session, merged, prepack });
    return this.step;
  }
}
