import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import type { WorkOptions } from '../base/work.js';
import { TemporaryFolder } from '../formats/io/write.js';
import { type BaseAlternation, readRecipe, sameRecipe } from '../formats/quant/recipe.js';
import { sameTask, type Task } from '../formats/task.js';
import type { Tokenizer, TokenizerOf } from '../formats/tokenizer.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import type { SessionOptions } from '../graph/runtime/session.js';
import { type Adapter, createAdapter } from '../methods/adapter.js';
import { type ExportedModel, type OnnxOptions, writeOnnxModel } from '../methods/exportOnnx.js';
import { type MethodConfig, type MethodName, methodNamed } from '../methods/index.js';
import type { MergeOptions } from '../methods/merge.js';
import { type BaseModel, openModel } from '../models/base.js';
import { forTask } from '../models/forTask.js';
import type { Active } from '../serve/decode.js';
import type { EvaPlan } from '../train/eva.js';
import type { TrainEvent } from '../train/loop.js';
import type { LrEvent, LrRangeInput } from '../train/lrFinder.js';
import type { RankPlan } from '../train/ranks.js';
import { AdaptedModel } from './adaptedModel.js';
import { readAdapterFor } from './adapterFile.js';
import { withTemplateOf } from './adapterTemplates.js';
import { checkArguments } from './arguments.js';
import { endingWith } from './calls.js';
import type { DataSource } from './data.js';
import type { EvaInput } from './eva.js';
import { type FurtherTraining, trainedFurther } from './furtherTraining.js';
import {
  type GenerationConfig,
  type GenerationEnd,
  Generator,
  type Prompt,
  type PromptOptions,
  snapshotOf,
} from './generator.js';
import { type LocateOptions, locate } from './locate.js';
import { type SavedModel, type SaveMergedOptions, writeMerged } from './merged.js';
import type { AdapterOptions, AddOptions, LoadOptions, ModelSource } from './modelOptions.js';
import type { ModelTrainOptions } from './modelTrainOptions.js';
import { NamedAdapters } from './namedAdapters.js';
import { type Prediction, type PredictOptions, predictOn } from './predict.js';
import { openBase, otherBase, quantizedFolder } from './quantizedBase.js';
import type { RankInput } from './ranks.js';
import type { SampleEvent } from './samples.js';
import { writeAdapterOf } from './savedAdapter.js';
import { taskOfAdapter } from './task.js';
import {
  type Engine,
  type EvaluateOptions,
  type Evaluation,
  evaluateOn,
  findLearningRateOn,
  planEvaOn,
  planRanksOn,
  trainOn,
} from './training.js';

/** A pre-trained model, adapters on it by name, and what can be done with them. */
export class Model extends AdaptedModel {
  private readonly runtime = new NodeRuntime();
  private readonly session: SessionOptions;
  private readonly givenTemplate: string | undefined;
  private readonly temporaries: TemporaryFolder[] = [];
  private readonly generator: Generator;

  /** Use loadModel. */
  constructor(
    base: BaseModel,
    private own: TokenizerOf,
    { device, threads, chatTemplate }: LoadOptions,
    private source: ModelSource,
    generation: GenerationConfig,
  ) {
    super(base);
    this.session = { device, threads };
    this.givenTemplate = chatTemplate;
    this.generator = new Generator(this.runtime, this.session, generation);
  }

  /** The model's tokenizer; that of the active adapter, where one or a chat template came with it. */
  get tokenizer(): Tokenizer {
    return this.tokenizerOf(this.adapter).tokenizer;
  }

  /**
   * Puts a new LoRA on the model (B = 0, so it changes nothing yet) and makes it the active one. Keys as in PEFT's
   * LoraConfig, in camelCase or snake_case. Throws UserError where a target matches nothing.
   */
  addLora(config: MethodConfig<'lora'> = {}, options: AddOptions = {}): Promise<Adapter> {
    return this.addMethod('lora', config, options);
  }

  /**
   * As addLora, for any method of the table ("full" trains every weight). LoftQ with loftqIter above 1 makes a quantized
   * base of its own, once into the cache, and puts the model over it.
   */
  addMethod<M extends MethodName>(
    method: M,
    config: MethodConfig<M>,
    given: AddOptions = {},
  ): Promise<Adapter> {
    return this.calls.change(async () => {
      checkArguments('addMethod', [method, config, given]);
      const { seed = 0, name, ...options } = given;
      const work = endingWith(this.calls.closed, options);
      const found = methodNamed(method);
      const parsed = found.parse(`${method} configuration`, config);
      const loftq = found.alternation?.(parsed, this.base);
      if (loftq && !(await this.alternate(loftq, work))) {
        throw new UserError(
          `${method} with ${loftq.iterations} iterations quantizes the base anew: put it on a model without other adapters`,
        );
      }
      return this.use(await createAdapter(found, parsed, this.base, seed, work), name);
    });
  }

  /**
   * Loads an adapter and makes it the active one: a PEFT or mlx-lm folder, a GGUF file of llama.cpp, or a hub id. LoftQ's own
   * quantized base comes along, where the model has the format and no adapter yet, and a chat template for while it is
   * active. To train it further, `method` and `config` may say how. Throws UserError where it is for another base.
   */
  loadAdapter(path: string, given: AdapterOptions & FurtherTraining & LocateOptions = {}): Promise<Adapter> {
    return this.calls.change(async () => {
      checkArguments('loadAdapter', [path, given]);
      const { name, method, config, ...options } = given;
      const at = await locate(path, { kind: 'adapter', ...options });
      await this.answer(await taskOfAdapter(at, this.base), path);
      const trained = await readRecipe(at);
      const { recipe } = this.source;
      if (trained?.loftq && trained.format === recipe?.format) {
        await this.alternate(trained.loftq, endingWith(this.calls.closed, options));
      }
      const read = await readAdapterFor(at, this.base, options);
      const further = trainedFurther(path, read, this.base, { method, config });
      const adapter = await withTemplateOf(path, at, further, this.own, {
        ...options,
        given: this.givenTemplate,
      });
      const other = otherBase(at, trained, this.source.recipe);
      if (other) options.onNotice?.(other);
      return this.use(adapter, name);
    });
  }

  /** Loads adapters, each under its path as its name, and makes all of them active: their changes add up. */
  async loadAdapters(paths: readonly string[], options: LocateOptions = {}): Promise<void> {
    checkArguments('loadAdapters', [paths, options]);
    for (const path of paths) await this.loadAdapter(path, { ...options, name: path });
    if (paths.length > 0) this.setAdapter(paths);
  }

  /** Writes an adapter, the active one if no name is given, as a PEFT folder. Throws UserError where the folder exists. */
  saveAdapter(folder: string, options: AdapterOptions & { overwrite?: boolean } = {}): Promise<void> {
    return this.calls.finish(async () => {
      checkArguments('saveAdapter', [folder, options]);
      const { name, overwrite = false } = options;
      const found = name === undefined ? this.adapters.single('saving') : this.adapters.get(name);
      const { source } = this;
      const { tokenizer } = this.tokenizerOf(found);
      const { adapter } = await this.snapshot(found);
      await writeAdapterOf(source, adapter!, tokenizer.chatTemplates, folder, overwrite);
    });
  }

  /**
   * Writes a whole model with what is active merged in: a folder that transformers reads, or a GGUF file for llama.cpp.
   */
  saveMerged(path: string, options: SaveMergedOptions = {}): Promise<SavedModel> {
    return this.calls.finish(async () => {
      checkArguments('saveMerged', [path, options]);
      const merged = { tokenizer: this.tokenizer, ...(await this.snapshot()) };
      return writeMerged(path, this.runtime, merged, options);
    });
  }

  /**
   * Writes a folder that transformers.js loads, with what is active merged in: ONNX files of the types in `dtype`, default fp32 and
   * q8, configuration and tokenizer. Throws UserError where the method cannot merge, transformers.js does not know the type of
   * model, or the folder exists.
   */
  exportOnnx(folder: string, options: OnnxOptions = {}): Promise<ExportedModel> {
    return this.calls.finish(async () => {
      checkArguments('model.exportOnnx', [folder, options]);
      const { tokenizer } = this;
      const { base, adapter } = await this.snapshot();
      return writeOnnxModel(folder, this.runtime, base, adapter, { tokenizer, ...options });
    });
  }

  /**
   * Makes what is active part of the base and removes all adapters, as PEFT's merge_and_unload. The weights are written to
   * `folder`, or to a temporary one that close() removes. Throws UserError where the method cannot merge or it exists.
   */
  mergeAndUnload(given: MergeOptions & { folder?: string } = {}): Promise<void> {
    return this.calls.change(() =>
      this.calls.finish(async () => {
        checkArguments('mergeAndUnload', [given]);
        const { folder, ...options } = given;
        const { tokenizer } = this;
        const { base, adapter } = await this.snapshot();
        const at = folder ?? join((await this.temporary()).path, 'model');
        await writeMerged(at, this.runtime, { base, adapter, tokenizer }, { ...options, format: 'hf' });
        await this.replaceBase(await openModel(await realpath(at)), {
          name: folder ?? null,
          templates: tokenizer.chatTemplates,
        });
        this.own = { tokenizer, folder: this.base.folder, model: this.base.folder };
      }),
    );
  }

  /**
   * Trains the active adapter in place; iterate to drive it. With `evalData` it ends with its best evaluation's values.
   */
  train(options: ModelTrainOptions): AsyncGenerator<TrainEvent | SampleEvent, void, void> {
    return this.calls.steps(() => {
      const adapter = this.adapters.single('training');
      return this.calls.alone(adapter, trainOn(this.engine(adapter), adapter, options));
    });
  }

  /**
   * Tries growing learning rates on a copy of the adapter, and suggests one; the last event has the result. Options as
   * for train, of which those of evaluation, saving and schedule play no part.
   */
  findLearningRate(options: ModelTrainOptions & LrRangeInput): AsyncGenerator<LrEvent, void, void> {
    return this.calls.steps(() => {
      const adapter = this.adapters.single('training');
      return findLearningRateOn(this.engine(adapter), this.snapshot(adapter), options);
    });
  }

  /**
   * Ranks for a LoRA or a descendant of it on this data, layer by layer, within `rankBudget` trainable parameters; see
   * planRanks of the training room. Put the plan's config on with addMethod. Of train's options the sizes of batches and
   * the seed count. Throws UserError where the method's layers cannot differ in rank.
   */
  planRanks<M extends MethodName>(
    name: M,
    config: MethodConfig<M>,
    options: ModelTrainOptions & RankInput,
  ): Promise<RankPlan> {
    return this.calls.run(() => planRanksOn(this.engine(), name, config, options));
  }

  /**
   * Where a LoRA or a descendant of it starts as EVA has it, and with which ranks; see planEva of the training room. Put it on
   * with addMethod: the plan's config, its starts among the options. Options as for train, of which the sizes of batches
   * and the seed count. Throws UserError where a target is an embedding, or the data are too few.
   */
  planEva<M extends MethodName>(
    name: M,
    config: MethodConfig<M>,
    options: ModelTrainOptions & EvaInput,
  ): Promise<EvaPlan> {
    return this.calls.run(() => planEvaOn(this.engine(), name, config, options));
  }

  /**
   * Mean loss and perplexity over the supervised tokens of a data set, and how much of it was cut or left out. With `generate`
   * the model also answers the rows, and its answers are compared with theirs: exact match, BLEU, ROUGE-L.
   */
  evaluate(data: DataSource, options: EvaluateOptions = {}): Promise<Evaluation> {
    return this.calls.run(() => evaluateOn(this.engine(this.adapter), this.snapshot(), data, options));
  }

  /**
   * What the model tells of rows, in their order as they come: classes with their probabilities, numbers, the labels of words,
   * embeddings.
   * Rows as for training, without labels. Throws UserError where it has no head for a task, or one that nothing trained.
   */
  predict(data: DataSource, options: PredictOptions = {}): AsyncGenerator<Prediction, void, void> {
    return this.calls.steps(() => predictOn(this.engine(this.adapter), this.snapshot(), data, options));
  }

  /**
   * The embeddings of texts, in their order, each of as many numbers as the model has hidden units; their dot product is the
   * cosine where the task normalizes them. Throws UserError where the model was not opened for embeddings.
   */
  async embed(texts: readonly string[], options: PredictOptions = {}): Promise<Float32Array[]> {
    checkArguments('embed', [texts, options]);
    const found: Float32Array[] = [];
    if (this.base.config.task?.kind !== 'embedding') {
      throw new UserError('the model makes no embeddings: open it with the task { kind: "embedding" }');
    }
    if (texts.length === 0) return found;
    for await (const answer of this.predict(
      texts.map((text) => ({ text })),
      options,
    )) {
      if ('embedding' in answer) found.push(answer.embedding);
    }
    return found;
  }

  /** Pieces of generated text as they come. A string is continued as it is; messages go through the chat template. */
  stream(
    prompt: Prompt,
    given: PromptOptions & { signal?: AbortSignal } = {},
  ): AsyncGenerator<string, GenerationEnd, void> {
    return this.calls.steps(() => {
      checkArguments('generate', [prompt, given]);
      const { signal, tools, ...options } = given;
      const tokenizer = this.tokenizerOf(this.adapter);
      const ids = this.generator.encode(tokenizer, prompt, tools);
      return this.generator.stream(this.snapshot(), tokenizer, ids, options, { signal });
    });
  }

  /** The whole generated text; of one that the signal ended, what there was. */
  async generate(prompt: Prompt, options: PromptOptions & { signal?: AbortSignal } = {}): Promise<string> {
    let text = '';
    for await (const piece of this.stream(prompt, options)) text += piece;
    return text;
  }

  /**
   * Ends the calls under way with a UserError, frees the engine, and removes temporary files. Later calls are refused.
   */
  async close(): Promise<void> {
    await this.calls.close((why) => this.runtime.close(why));
    for (const temporary of this.temporaries.splice(0)) await temporary.remove();
  }

  /**
   * Puts the model over its quantized base for LoftQ, made where the cache has none. Returns whether it is over it now:
   * adapters keep the base that they were put on. Without the original nothing is changed, since LoftQ tells of that.
   */
  private async alternate(
    loftq: BaseAlternation,
    options: Pick<LocateOptions, 'onNotice'> & WorkOptions,
  ): Promise<boolean> {
    const { original, recipe } = this.source;
    if (original === undefined || !recipe) return true;
    const wanted = { format: recipe.format, loftq };
    if (sameRecipe(wanted, recipe)) return true;
    if (this.adapterNames.length > 0) return false;
    const folder = await quantizedFolder(original, wanted, options);
    await this.replaceBase(await openBase({ folder, original }), { ...this.source, recipe: wanted });
    return true;
  }

  /** Puts the head of an adapter's task on. Throws UserError where adapters are there already: they have the base as it is. */
  private async answer(task: Task | undefined, adapter: string): Promise<void> {
    const { task: own } = this.base.config;
    if (!task || sameTask(task, own)) return;
    if (this.adapterNames.length > 0) {
      throw new UserError(
        `${adapter} is for ${task.kind}, and the model's other adapters for ${own?.kind ?? 'the next token'}: load it into a model of its own`,
      );
    }
    await this.replaceBase(forTask(this.base, task), this.source);
  }

  private async replaceBase(base: BaseModel, source: ModelSource): Promise<void> {
    this.current = base;
    this.source = source;
    this.adapters = new NamedAdapters(base);
    this.merged = false;
    await this.generator.drop();
  }

  private async temporary(): Promise<TemporaryFolder> {
    const made = await TemporaryFolder.make('model');
    this.temporaries.push(made);
    return made;
  }

  private tokenizerOf(adapter: Adapter | undefined): TokenizerOf {
    return adapter?.tokenizer ?? this.own;
  }

  private engine(adapter?: Adapter): Engine {
    const { runtime, base, session, generator } = this;
    const tokenizer = this.tokenizerOf(adapter);
    return { runtime, base, tokenizer, session, generator, closed: this.calls.closed };
  }

  /** What the model computes with now. To be called before anything is awaited. */
  private snapshot(adapter = this.adapter): Promise<Active> {
    return snapshotOf(this.runtime, { base: this.base, adapter, merged: this.merged });
  }
}
