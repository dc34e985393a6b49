import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { UserError } from '../base/errors.js';
import type { ChatMessage } from '../formats/chat.js';
import { renderChat } from '../formats/chat.js';
import { writeFolderAtomic } from '../formats/io/node.js';
import { checkConversation } from '../formats/messages.js';
import { loadTokenizer, StreamDecoder, type Tokenizer } from '../formats/tokenizer.js';
import type { Device } from '../graph/op.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import type { SessionOptions } from '../graph/runtime/session.js';
import { type Adapter, createAdapter, trainableCount } from '../methods/adapter.js';
import type { CombineInput } from '../methods/combine.js';
import { writeAdapterFolder } from '../methods/files.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import type { LoraConfig } from '../methods/lora.js';
import { type MergeOptions, writeMergedModel } from '../methods/merge.js';
import { type BaseModel, openModel } from '../models/base.js';
import { formatOf } from '../models/quantized.js';
import { DecodeStep } from '../serve/decode.js';
import {
  type FinishReason,
  type GenerateInput,
  generateTokens,
  parseGenerateOptions,
  textOf,
} from '../serve/generate.js';
import type { EncodeRowsOptions, EncodeStats } from '../train/data/encode.js';
import { evaluate } from '../train/evaluate.js';
import { type TrainEvent, trainLoop } from '../train/loop.js';
import { findLearningRate, type LrEvent, type LrRangeInput, parseLrRange } from '../train/lrFinder.js';
import { planRanks, type RankPlan } from '../train/ranks.js';
import { LossStep } from '../train/step.js';
import { readAdapterFor } from './adapterFile.js';
import { type DataSource, loadExamples, loadTrainingExamples, type TokenizerOf } from './data.js';
import { baseName, type LocateOptions, locate } from './locate.js';
import { DEFAULT_NAME, NamedAdapters } from './namedAdapters.js';
import { type BaseOptions, otherBase, resolveBase } from './quantize.js';
import { parseRankOptions, type RankInput } from './ranks.js';
import {
  keepsDecoder,
  promptsOf,
  type SampleEvent,
  type SampleOptions,
  type SamplePrompt,
  sampledStep,
} from './samples.js';
import { parseTrainJob, type TrainJobOptions, type TrainJobParts } from './trainJob.js';

export interface LoadOptions extends BaseOptions {
  device?: Device;
  /** Threads of the CPU provider; default: one a physical core. */
  threads?: number;
}

/** Loss in nats a supervised token. */
export interface Evaluation extends Pick<EncodeStats, 'rows' | 'truncated' | 'dropped'> {
  loss: number;
  perplexity: number;
  tokens: number;
}

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

const DEFAULT_MAX_LENGTH = 1024;
const EVAL_MICRO_BATCH_TOKENS = 1024;

/**
 * Opens a model: a Hugging Face folder, a GGUF file (converted once into a cache), or a hub id as
 * `HuggingFaceTB/SmolLM2-135M-Instruct` (fetched once into the hub's cache; a folder of that name wins). Weights stay
 * on disk until a graph maps them; with `base` the linear layers are those of a quantized copy, made once into the
 * cache. Throws UserError naming the file where something is missing or unsupported.
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  const folder = await resolveBase(path, options);
  const base = await openModel(await realpath(folder));
  const tokenizer = await loadTokenizer(folder);
  if (tokenizer.vocabSize > base.config.vocabSize) {
    throw new UserError(
      `${folder}: tokenizer.json has ${tokenizer.vocabSize} tokens, config.json a vocab_size of ${base.config.vocabSize}`,
    );
  }
  return new Model(base, tokenizer, options, await baseName(path));
}

/** How an adapter is put on a model. */
export interface AdapterOptions {
  /** By which it is chosen, saved and deleted; one of that name is replaced. Default: "default". */
  name?: string;
}

/** A pre-trained model, adapters on it by name, and what can be done with them. */
export class Model {
  private readonly runtime = new NodeRuntime();
  private readonly session: SessionOptions;
  private readonly folders: string[] = [];
  private decode: DecodeStep | undefined;
  private adapters: NamedAdapters;
  private merged = false;

  /** Use loadModel. */
  constructor(
    private current: BaseModel,
    readonly tokenizer: Tokenizer,
    { device, threads }: LoadOptions,
    /** What adapters record as their base; null where nothing that stays holds it. */
    private source: string | null,
  ) {
    this.session = { device, threads };
    this.adapters = new NamedAdapters(current);
  }

  /** The pre-trained model, on disk. */
  get base(): BaseModel {
    return this.current;
  }

  /** What the model computes with: the active adapter, the sum of several; undefined for the base alone. */
  get adapter(): Adapter | undefined {
    return this.adapters.current;
  }

  /** The names of all adapters, in the order in which they were added. */
  get adapterNames(): string[] {
    return this.adapters.names;
  }

  /** The names of those that are active, unless they are disabled. */
  get activeAdapters(): string[] {
    return this.adapters.active;
  }

  /** Parameters of the whole model, and those that train. */
  get parameters(): { total: number; trainable: number } {
    let total = 0;
    for (const shape of this.base.parameters.values()) total += shape.reduce((a, b) => a * b, 1);
    return { total, trainable: this.adapter ? trainableCount(this.adapter.trainables) : 0 };
  }

  /**
   * Puts a new LoRA on the model (B = 0, so it changes nothing yet) and makes it the active one. Keys as in PEFT's
   * LoraConfig, in camelCase or snake_case. Throws UserError where a target matches nothing.
   */
  addLora(
    config: Partial<LoraConfig> = {},
    options: AdapterOptions & { seed?: number } = {},
  ): Promise<Adapter> {
    return this.addMethod('lora', config, options);
  }

  /** As addLora, for any method of the table ("full" trains every weight). */
  async addMethod(
    method: MethodName,
    config: object,
    { seed = 0, name }: AdapterOptions & { seed?: number } = {},
  ): Promise<Adapter> {
    const found = methodNamed(method);
    const parsed = found.parse(`${method} configuration`, config);
    return this.use(await createAdapter(found, parsed, this.base, seed), name);
  }

  /**
   * Loads an adapter and makes it the active one: a PEFT folder, a GGUF file of llama.cpp, an mlx-lm folder, or a hub
   * id. Throws UserError where it is for another base.
   */
  async loadAdapter(
    path: string,
    { name, ...options }: AdapterOptions & LocateOptions = {},
  ): Promise<Adapter> {
    const at = await locate(path, { kind: 'adapter', ...options });
    const adapter = await readAdapterFor(at, this.base);
    const other = await otherBase(at, formatOf(this.base));
    if (other) options.onNotice?.(other);
    return this.use(adapter, name);
  }

  /** Loads adapters, each under its path as its name, and makes all of them active: their changes add up. */
  async loadAdapters(paths: readonly string[], options: LocateOptions = {}): Promise<void> {
    for (const path of paths) await this.loadAdapter(path, { ...options, name: path });
    if (paths.length > 0) this.setAdapter(paths);
  }

  /**
   * A new adapter out of several, each with its weight (default: 1), as PEFT's add_weighted_adapter; it becomes the
   * active one. Throws UserError where one is more than LoRA, or where they do not fit each other.
   */
  addWeightedAdapter(
    names: readonly string[],
    { weights, name, ...options }: AdapterOptions & { weights?: readonly number[] } & CombineInput = {},
  ): Adapter {
    return this.use(this.adapters.combine(names, weights, options), name);
  }

  /**
   * Chooses the active adapter, or several whose changes add up (LoRA and its kin), and enables them. A change between
   * adapters of one shape costs only the copy of their values. Throws UserError on an unknown name, listing those there
   * are, and where adapters of these methods do not add up.
   */
  setAdapter(names: string | readonly string[]): void {
    this.adapters.activate(typeof names === 'string' ? [names] : names);
    this.merged = false;
  }

  /** The base computes again exactly what it did before; the adapters stay. */
  disableAdapters(): void {
    this.adapters.setDisabled(true);
    this.merged = false;
  }

  /** Undoes disableAdapters. */
  enableAdapters(): void {
    this.adapters.setDisabled(false);
  }

  /** Removes an adapter. Without another active one the base is left alone. Throws UserError on an unknown name. */
  deleteAdapter(name: string): void {
    this.adapters.delete(name);
    this.merged = false;
  }

  /**
   * Merges what is active for generation: W₀ + (α/r)·BA is computed once, so a token costs what the base's costs. The
   * base's weights themselves are not touched, and evaluation and training see the adapter apart.
   */
  merge(): void {
    if (!this.adapter) throw new UserError('there is no active adapter to merge');
    this.merged = true;
  }

  /** Undoes merge. */
  unmerge(): void {
    this.merged = false;
  }

  /** Writes an adapter, the active one if no name is given, as a PEFT folder. Throws UserError where the folder exists. */
  async saveAdapter(
    folder: string,
    { name, overwrite = false }: AdapterOptions & { overwrite?: boolean } = {},
  ): Promise<void> {
    const adapter = name === undefined ? this.adapters.single('saving') : this.adapters.get(name);
    await writeFolderAtomic(folder, (temporary) => writeAdapterFolder(temporary, adapter, this.source), {
      overwrite,
    });
  }

  /** Writes a whole model folder with what is active merged in, readable by transformers. */
  saveMerged(folder: string, options: MergeOptions = {}): Promise<void> {
    return writeMergedModel(folder, this.runtime, this.base, this.adapter, options);
  }

  /**
   * Makes what is active part of the base and removes all adapters, as PEFT's merge_and_unload: from here on this is a
   * plain model. Its weights are written to `folder`, or to a temporary one that close() removes, and read from there.
   * Throws UserError where the method cannot merge or the folder exists.
   */
  async mergeAndUnload({ folder, ...options }: MergeOptions & { folder?: string } = {}): Promise<void> {
    const at = folder ?? join(await this.temporaryFolder(), 'model');
    await this.saveMerged(at, options);
    await this.dropDecoder();
    this.current = await openModel(await realpath(at));
    this.source = folder ?? null;
    this.adapters = new NamedAdapters(this.current);
    this.merged = false;
  }

  /**
   * Trains the active adapter in place; iterate to drive it. With `evalData` it ends with its best evaluation's values, with
   * `sampleSteps` it generates on the way.
   */
  async *train(options: TrainJobOptions): AsyncGenerator<TrainEvent | SampleEvent, void, void> {
    const parts = parseTrainJob(options);
    const { hyper, samples, sources } = parts;
    const adapter = this.adapters.single('training');
    const { train, evaluation, limits } = await this.examplesOf(parts);
    try {
      const fingerprint = JSON.stringify({
        method: adapter.method.name,
        config: adapter.config,
        model: { type: this.base.config.modelType, parameters: this.parameters.total },
        base: formatOf(this.base),
        data: { rows: train.stats.rows, tokens: train.stats.tokens },
        ...limits,
        evalSplit: sources.evalSplit,
        ...hyper,
        saveSteps: undefined,
        saveTotalLimit: undefined,
      });
      const encode = (prompt: string | readonly ChatMessage[]) => this.encodePrompt(prompt);
      const prompts = promptsOf(samples, (evaluation ?? train).examples, this.tokenizer, encode);
      await this.dropDecoder();
      const events = trainLoop({
        ...this.engine(adapter, options.signal),
        examples: train.examples,
        evalExamples: evaluation?.examples,
        options: hyper,
        run: options.run,
        resume: options.resume,
        fingerprint,
      });
      for await (const event of events) {
        yield event;
        const step = sampledStep(event, samples);
        if (step !== undefined) yield* this.sample(step, prompts, samples, options.signal);
      }
    } finally {
      // One that was made on the way may have merged older values.
      await this.dropDecoder();
      await train.close();
      await evaluation?.close();
    }
  }

  /**
   * Tries growing learning rates on a copy of the adapter, and suggests one; the last event has the result. The
   * adapter stays as it is. Options as for train, of which those of evaluation, saving and schedule play no part.
   */
  async *findLearningRate(options: TrainJobOptions & LrRangeInput): AsyncGenerator<LrEvent, void, void> {
    const { minLr, maxLr, lrSteps, ...rest } = options;
    const range = parseLrRange('learning-rate range', { minLr, maxLr, lrSteps });
    const adapter = this.adapters.single('training');
    const parts = parseTrainJob(rest);
    const { train, evaluation } = await this.examplesOf(parts);
    try {
      await this.dropDecoder();
      const job = { ...this.engine(adapter, options.signal), examples: train.examples };
      yield* findLearningRate({ ...job, options: parts.hyper }, range);
    } finally {
      await train.close();
      await evaluation?.close();
    }
  }

  /**
   * Ranks for a LoRA or a descendant of it on this data, layer by layer, within `rankBudget` trainable parameters; see
   * planRanks of the training room. Put the plan's config on with addMethod. Options as for train, of which the sizes
   * of batches and the seed count. Throws UserError where the method's layers cannot differ in rank.
   */
  async planRanks(name: MethodName, config: object, options: TrainJobOptions & RankInput): Promise<RankPlan> {
    const { rankBudget, rankMax, rankBatches, ...rest } = options;
    const method = methodNamed(name);
    const ranks = parseRankOptions(method, { rankBudget, rankMax, rankBatches });
    const lora = method.parse(`${name} configuration`, config) as LoraConfig;
    const parts = parseTrainJob(rest);
    const { batchSize, microBatchTokens, seed } = parts.hyper;
    const { train, evaluation } = await this.examplesOf(parts);
    try {
      const { rankBudget: budget, rankMax: maxRank, rankBatches: batches } = ranks;
      const limits = { budget, maxRank, batches, batchSize, microBatchTokens, seed };
      return await planRanks(this.runtime, this.base, lora, train.examples, limits, this.session);
    } finally {
      await train.close();
      await evaluation?.close();
    }
  }

  /** Mean loss and perplexity over the supervised tokens of a data set, and how much of it was cut or left out. */
  async evaluate(
    data: DataSource,
    { maxLength, lossOn = 'completion' }: Partial<EncodeRowsOptions> = {},
  ): Promise<Evaluation> {
    const limits = { maxLength: this.exampleLimit(maxLength), lossOn };
    const { examples, stats, close } = await loadExamples(data, this.tokenizerOf(), limits);
    try {
      const step = await LossStep.create(this.runtime, this.base, this.adapter, this.session);
      try {
        const { loss, tokens } = await evaluate(step, examples, EVAL_MICRO_BATCH_TOKENS);
        const { rows, truncated, dropped } = stats;
        return { loss, perplexity: Math.exp(loss), tokens, rows, truncated, dropped };
      } finally {
        await step.close();
      }
    } finally {
      await close();
    }
  }

  /** Pieces of generated text as they come. A string is continued as it is; messages go through the chat template. */
  async *stream(
    prompt: string | readonly ChatMessage[],
    options: PromptOptions & { signal?: AbortSignal } = {},
  ): AsyncGenerator<string, GenerationEnd, void> {
    const { signal, tools, ...rest } = options;
    return yield* this.continue(this.encodePrompt(prompt, tools), rest, { signal });
  }

  private async *continue(
    ids: readonly number[],
    options: GenerateInput,
    { signal, prepack }: { signal?: AbortSignal; prepack?: boolean } = {},
  ): AsyncGenerator<string, GenerationEnd, void> {
    const parsed = parseGenerateOptions('generation options', options);
    const step = await this.decoder(prepack);
    const decoder = new StreamDecoder(this.tokenizer, { after: ids });
    const tokens = generateTokens(step, this.base.config, ids, parsed, this.tokenizer.eosIds, signal);
    let count = 0;
    const push = (id: number) => {
      count++;
      return decoder.push(id);
    };
    const reason = yield* textOf(tokens, { push, end: () => decoder.flush() }, parsed.stop);
    return { reason, promptTokens: ids.length, tokens: count };
  }

  /** The whole generated text. */
  async generate(prompt: string | readonly ChatMessage[], options: PromptOptions = {}): Promise<string> {
    let text = '';
    for await (const piece of this.stream(prompt, options)) text += piece;
    return text;
  }

  /** Frees the engine, and removes temporary files. */
  async close(): Promise<void> {
    await this.runtime.close();
    for (const folder of this.folders.splice(0)) await rm(folder, { recursive: true, force: true });
  }

  private async temporaryFolder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'lowrank-'));
    this.folders.push(folder);
    return folder;
  }

  private exampleLimit(wanted: number | undefined): number {
    const { maxPositions } = this.base.config;
    if (wanted !== undefined && wanted > maxPositions) {
      throw new UserError(`a maximum length of ${wanted} is more than the model's ${maxPositions} positions`);
    }
    return wanted ?? Math.min(DEFAULT_MAX_LENGTH, maxPositions);
  }

  private use(adapter: Adapter, name = DEFAULT_NAME): Adapter {
    this.adapters.add(name, adapter);
    this.merged = false;
    return adapter;
  }

  private tokenizerOf(): TokenizerOf {
    return { tokenizer: this.tokenizer, folder: this.base.folder };
  }

  private encodePrompt(prompt: string | readonly ChatMessage[], tools?: readonly unknown[]): number[] {
    if (typeof prompt === 'string') {
      if (tools) throw new UserError('tools belong to a chat: give the prompt as messages');
      return this.tokenizer.encode(prompt);
    }
    const template = this.tokenizer.chatTemplate;
    if (!template)
      throw new UserError(`${basename(this.base.folder)} has no chat template; give the prompt as text`);
    const chat = checkConversation('the chat', { messages: prompt, tools });
    const options = { addGenerationPrompt: true, tools: chat.tools, ...this.tokenizer.texts() };
    const text = renderChat(template, chat.messages, options);
    return this.tokenizer.encode(text, { addSpecialTokens: false });
  }

  /** A generation for each prompt, with the adapter as it is; none of one that was interrupted. */
  private async *sample(
    step: number,
    prompts: readonly SamplePrompt[],
    { sampleMaxTokens: maxNewTokens }: SampleOptions,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<SampleEvent, void, void> {
    const keep = keepsDecoder(this.base) && !this.merged;
    for (const { prompt, ids } of prompts) {
      const pieces = this.continue(ids, { maxNewTokens }, { signal, prepack: keep });
      let text = '';
      let next = await pieces.next();
      for (; !next.done; next = await pieces.next()) text += next.value;
      if (next.value.reason === 'aborted') break;
      yield { kind: 'sample', step, prompt, text, tokens: next.value.tokens };
    }
    if (!keep) await this.dropDecoder();
  }

  private async examplesOf({ sources, hyper, lossOn, maxLength, onData }: TrainJobParts) {
    const limits = { lossOn, maxLength: this.exampleLimit(maxLength) };
    const loaded = await loadTrainingExamples({ ...sources, seed: hyper.seed }, this.tokenizerOf(), limits);
    onData?.({ train: loaded.train.stats, eval: loaded.evaluation?.stats });
    return { ...loaded, limits };
  }

  /** What training an adapter runs on. */
  private engine(adapter: Adapter, signal: AbortSignal | undefined) {
    return { runtime: this.runtime, model: this.base, adapter, session: this.session, signal };
  }

  /** The compiled step for what is active. An adapter that computes by the same graph as the last only brings its values. */
  private async decoder(prepack = true): Promise<DecodeStep> {
    const { current } = this.adapters;
    if (await this.decode?.useAdapter(current, this.merged)) return this.decode!;
    await this.dropDecoder();
    this.decode = await DecodeStep.create(this.runtime, this.base, current, {
      ...this.session,
      merged: this.merged,
      prepack,
    });
    return this.decode;
  }

  private async dropDecoder(): Promise<void> {
    const step = this.decode;
    this.decode = undefined;
    await step?.close();
  }
}
