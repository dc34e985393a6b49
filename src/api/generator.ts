import { basename } from 'node:path';
import { UserError } from '../base/errors.js';
import { type ChatMessage, renderChat } from '../formats/chat.js';
import { type GenerationSettings, parseGenerationConfig } from '../formats/generationConfig.js';
import { checkConversation } from '../formats/messages.js';
import { StreamDecoder, type TokenizerOf } from '../formats/tokenizer.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import { copyOf } from '../methods/adapter.js';
import { type Active, Decoder, type DecodeStep } from '../serve/decode.js';
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

/** What a model computes with, as it was at a call: later changes, of training too, do not reach it. */
export async function snapshotOf({ lending }: Runtime, { adapter, ...active }: Active): Promise<Active> {
  // A step of training has borrowed the values; they come back before it changes them.
  if (adapter && lending) await lending;
  return { ...active, adapter: adapter && copyOf(adapter) };
}

/** A decoder, and how many generations go on with it. */
interface Loaded {
  decoder: Decoder;
  users: number;
}

/** Generates with a model, and keeps the decoder of the last generation for the next. */
export class Generator {
  private loaded: Loaded[] = [];
  private kept: Loaded | undefined;
  private known: GenerationSettings | undefined;
  private toldTwice = false;

  constructor(
    private readonly runtime: Runtime,
    private readonly session: SessionOptions,
    private readonly config: GenerationConfig,
  ) {}

  /** Token ids of a prompt; a chat goes through the model's template. Throws UserError on a chat without one. */
  encode({ tokenizer, folder }: TokenizerOf, prompt: Prompt, tools?: readonly unknown[]): number[] {
    if (typeof prompt === 'string') {
      if (tools) throw new UserError('tools belong to a chat: give the prompt as messages');
      const ids = tokenizer.encode(prompt);
      if (tokenizer.startsTwice(ids) && !this.toldTwice) {
        this.toldTwice = true;
        const start = JSON.stringify(tokenizer.tokenOf(ids[0]));
        this.config.onNotice?.(
          `the prompt begins with ${start}, which the tokenizer puts before it too: it stands there twice, as in transformers`,
        );
      }
      return ids;
    }
    const template = tokenizer.templateFor(tools);
    if (!template) {
      throw new UserError(`${basename(folder)} has no chat template; give the prompt as text`);
    }
    const chat = checkConversation('the chat', { messages: prompt, tools });
    const options = { addGenerationPrompt: true, tools: chat.tools, ...tokenizer.texts() };
    const text = renderChat(template, chat.messages, options);
    return tokenizer.encode(text, { addSpecialTokens: false });
  }

  /** Pieces of text that follow the prompt's ids, as they come; what is wrong with the options is thrown at once. */
  stream(
    snapshot: Promise<Active>,
    tokenizer: TokenizerOf,
    ids: readonly number[],
    options: GenerateInput,
    { signal, prepack }: { signal?: AbortSignal; prepack?: boolean } = {},
  ): AsyncGenerator<string, GenerationEnd, void> {
    // Where nobody asks for the first piece, a snapshot that failed is no unhandled rejection.
    snapshot.catch(() => {});
    const parsed = this.options(options, ids.length);
    return this.pieces(snapshot, tokenizer, ids, parsed, { signal, prepack });
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
    active: Active,
    tokenizer: TokenizerOf,
    step: number,
    prompts: readonly SamplePrompt[],
    { sampleMaxTokens: maxNewTokens }: SampleOptions,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<SampleEvent, void, void> {
    const keep = keepsDecoder(active.base);
    for (const { prompt, ids } of prompts) {
      const snapshot = snapshotOf(this.runtime, active);
      const greedy = { maxNewTokens, temperature: 0 };
      const pieces = this.stream(snapshot, tokenizer, ids, greedy, { signal, prepack: keep });
      let text = '';
      let next = await pieces.next();
      for (; !next.done; next = await pieces.next()) text += next.value;
      if (next.value.reason === 'aborted') break;
      yield { kind: 'sample', step, prompt, text, tokens: next.value.tokens };
    }
    if (!keep) await this.drop();
  }

  /** Frees the decoder that is kept. One in use is freed behind its last generation. */
  async drop(): Promise<void> {
    this.kept = undefined;
    await this.freeUnused();
  }

  private async *pieces(
    snapshot: Promise<Active>,
    { tokenizer }: TokenizerOf,
    ids: readonly number[],
    options: GenerateOptions,
    { signal, prepack }: { signal?: AbortSignal; prepack?: boolean },
  ): AsyncGenerator<string, GenerationEnd, void> {
    if (signal?.aborted) return { reason: 'aborted', promptTokens: ids.length, tokens: 0 };
    const { base, adapter, merged } = await snapshot;
    const loaded = await this.use({ base, adapter, merged }, prepack);
    let step: DecodeStep | undefined;
    try {
      step = await loaded.decoder.step(adapter);
      const decoder = new StreamDecoder(tokenizer, { after: ids });
      const tokens = generateTokens(step, base.config, ids, options, tokenizer.eosIds, signal);
      let count = 0;
      const push = (id: number) => {
        count++;
        return decoder.push(id);
      };
      const reason = yield* textOf(tokens, { push, end: () => decoder.flush() }, options.stop);
      return { reason, promptTokens: ids.length, tokens: count };
    } finally {
      await step?.close();
      loaded.users--;
      await this.freeUnused();
    }
  }

  /** A decoder for what is computed with: one that is loaded where it fits. It is what is kept from now on. */
  private async use(active: Active, prepack = true): Promise<Loaded> {
    let found = this.loaded.find(({ decoder }) => decoder.fits(active));
    if (!found) {
      found = { decoder: new Decoder(this.runtime, active, { ...this.session, prepack }), users: 0 };
      this.loaded.push(found);
    }
    found.users++;
    this.kept = found;
    await this.freeUnused();
    return found;
  }

  private async freeUnused(): Promise<void> {
    const unused = this.loaded.filter((one) => one.users === 0 && one !== this.kept);
    this.loaded = this.loaded.filter((one) => !unused.includes(one));
    await Promise.all(unused.map(({ decoder }) => decoder.close()));
  }
}
