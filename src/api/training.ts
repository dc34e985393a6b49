import { createHash } from 'node:crypto';
import { UserError } from '../base/errors.js';
import type { WorkOptions } from '../base/work.js';
import type { Tokenizer, TokenizerOf } from '../formats/tokenizer.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import { type Adapter, present } from '../methods/adapter.js';
import { refuseNewHead } from '../methods/head.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import type { LoraConfig } from '../methods/lora.js';
import { prefixLength } from '../methods/pastKeys.js';
import { virtualCount } from '../methods/virtualTokens.js';
import type { BaseModel } from '../models/base.js';
import { formatOf } from '../models/quantized.js';
import { parameterCount } from '../models/shape.js';
import type { Active } from '../serve/decode.js';
import { filledByRows } from '../train/byRows.js';
import type { EncodeRowsOptions, EncodeStats } from '../train/data/encode.js';
import type { Content } from '../train/data/form.js';
import type { ExampleSource } from '../train/data/source.js';
import { type EvaPlan, planEva } from '../train/eva.js';
import { type Evaluated, Evaluator } from '../train/evaluate.js';
import { type TrainEvent, trainLoop } from '../train/loop.js';
import { findLearningRate, type LrEvent, type LrRangeInput, parseLrRange } from '../train/lrFinder.js';
import type { Objective } from '../train/objective.js';
import { causalLm } from '../train/objectives/causalLm.js';
import { objectiveOf } from '../train/objectives/index.js';
import { type ObjectiveInput, objectiveFor, parseObjective } from '../train/objectives/named.js';
import type { TrainOptions } from '../train/options.js';
import { prepared } from '../train/preparation.js';
import { planRanks, type RankPlan } from '../train/ranks.js';
import { checkArguments } from './arguments.js';
import { endingWith } from './calls.js';
import { type DataSource, type Examples, loadExamples, loadTrainingExamples, rereadable } from './data.js';
import { type EvaInput, parseEvaOptions } from './eva.js';
import { type AnsweringInput, answersTo, type Generations, loadAsked } from './generations.js';
import type { Generator, Prompt } from './generator.js';
import { longestOf, refuseBeyondMemory, rowsOfExamples } from './memoryCheck.js';
import { type ModelTrainOptions, type ModelTrainParts, parseModelTrainOptions } from './modelTrainOptions.js';
import { parseRankOptions, type RankInput } from './ranks.js';
import { promptsOf, type SampleEvent, sampledStep } from './samples.js';

/** What jobs on data run on. */
export interface Engine {
  runtime: Runtime;
  base: BaseModel;
  tokenizer: TokenizerOf;
  session: SessionOptions;
  generator: Generator;
  /** Aborts when the model is closed: nothing more is read for it. */
  closed: AbortSignal;
}

/** What to evaluate for, how rows are encoded, and with `generate` also how they are answered. */
export interface EvaluateOptions extends Partial<EncodeRowsOptions>, ObjectiveInput, WorkOptions {
  generate?: AnsweringInput;
}

/** Loss in nats a supervised token, and what else the objective measures. */
export interface Evaluation
  extends Evaluated,
    Pick<EncodeStats, 'rows' | 'truncated' | 'dropped' | 'unanswered'> {
  /** With `generate`: the model's answers beside those of the rows. */
  generations?: Generations;
  /** What the loss is one of, and in whose units: "token" and "nats a token". */
  units: Objective['units'];
}

const DEFAULT_MAX_LENGTH = 1024;
const EVAL_MICRO_BATCH_TOKENS = 1024;

/** See Model.train. */
export async function* trainOn(
  engine: Engine,
  adapter: Adapter,
  options: ModelTrainOptions,
): AsyncGenerator<TrainEvent | SampleEvent, void, void> {
  checkArguments('train', [options]);
  const { base, generator, tokenizer } = engine;
  const parts = parseModelTrainOptions(options);
  const objective = objectiveFor(base, parts.objective);
  const { samples, sources } = parts;
  options.signal?.throwIfAborted();
  for (const [name, value] of adapter.values) present(name, value);
  const { train, evaluation, limits, close } = await examplesOf(engine, objective, parts, adapter);
  const hyper = filledByRows(parts.hyper, train.examples.length, adapter.method, objective);
  try {
    checkMemory(engine, adapter, objective, parts, { train, evaluation });
    const fingerprint = JSON.stringify({
      method: adapter.method.name,
      config: adapter.config,
      model: { type: base.config.modelType, parameters: parameterCount(base) },
      base: formatOf(base),
      task: base.config.task,
      objective: parts.objective,
      data: { rows: train.stats.rows, tokens: train.stats.tokens },
      chatTemplate: templateHash(tokenizer.tokenizer),
      ...limits,
      evalSplit: sources.evalSplit,
      ...hyper,
      saveSteps: undefined,
      saveTotalLimit: undefined,
    });
    const encode = (prompt: Prompt) => generator.encode(tokenizer, prompt);
    const prompts = promptsOf(
      samples,
      objective,
      (evaluation ?? train).examples,
      tokenizer.tokenizer,
      encode,
    );
    await generator.drop();
    const events = trainLoop({
      ...loopOn(engine, adapter, objective, parts.work),
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
      if (step !== undefined) {
        yield* generator.samples(
          { base, adapter, merged: false },
          tokenizer,
          step,
          prompts,
          samples,
          options.signal,
        );
      }
    }
  } finally {
    await close();
  }
}

/** Tells a model's chat templates from others; null where it has none. */
export function templateHash({ chatTemplates }: Pick<Tokenizer, 'chatTemplates'>): string | null {
  const { plain, toolUse = plain } = chatTemplates;
  const templates = [plain, toolUse];
  if (templates.every((template) => template === undefined)) return null;
  return createHash('sha256').update(JSON.stringify(templates)).digest('hex').slice(0, 16);
}

/** See Model.findLearningRate. */
export async function* findLearningRateOn(
  engine: Engine,
  snapshot: Promise<Active>,
  options: ModelTrainOptions & LrRangeInput,
): AsyncGenerator<LrEvent, void, void> {
  checkArguments('findLearningRate', [options]);
  const adapter = (await snapshot).adapter!;
  const { minLr, maxLr, lrSteps, ...rest } = options;
  const range = parseLrRange('learning-rate range', { minLr, maxLr, lrSteps });
  const parts = parseModelTrainOptions(rest);
  const objective = objectiveFor(engine.base, parts.objective);
  const { train, close } = await examplesOf(engine, objective, parts, adapter);
  try {
    checkMemory(engine, adapter, objective, parts, { train });
    await engine.generator.drop();
    const job = { ...loopOn(engine, adapter, objective, parts.work), examples: train.examples };
    yield* findLearningRate({ ...job, options: parts.hyper }, range);
  } finally {
    await close();
  }
}

/** See Model.planRanks. */
export async function planRanksOn(
  engine: Engine,
  name: MethodName,
  config: object,
  options: ModelTrainOptions & RankInput,
): Promise<RankPlan> {
  checkArguments('planRanks', [name, config, options]);
  const { rankBudget, rankMax, rankBatches, ...rest } = options;
  const method = methodNamed(name);
  const ranks = parseRankOptions(method, { rankBudget, rankMax, rankBatches });
  const lora = method.parse(`${name} configuration`, config) as LoraConfig;
  return onExamples(engine, rest, (examples, order) => {
    const { rankBudget: budget, rankMax: maxRank, rankBatches: batches } = ranks;
    const limits = { budget, maxRank, batches, ...order };
    const session = { ...engine.session, onProgress: rest.onProgress, signal: rest.signal };
    return planRanks(engine.runtime, engine.base, lora, examples, limits, session);
  });
}

/** See Model.planEva. */
export async function planEvaOn(
  engine: Engine,
  name: MethodName,
  config: object,
  options: ModelTrainOptions & EvaInput,
): Promise<EvaPlan> {
  checkArguments('planEva', [name, config, options]);
  const { evaBatches, ...rest } = options;
  const { evaBatches: batches } = parseEvaOptions({ evaBatches });
  const asked = { ...config, initLoraWeights: 'eva' };
  const lora = methodNamed(name).parse(`${name} configuration`, asked) as LoraConfig;
  return onExamples(engine, rest, (examples, order) => {
    const session = { ...engine.session, onProgress: rest.onProgress, signal: rest.signal };
    return planEva(engine.runtime, engine.base, lora, examples, { batches, ...order }, session);
  });
}

/** Makes a plan out of the examples of training options, and of how these make batches of them. */
async function onExamples<T>(
  engine: Engine,
  options: ModelTrainOptions,
  plan: (
    examples: ExampleSource,
    order: Pick<TrainOptions, 'batchSize' | 'microBatchTokens' | 'seed'>,
  ) => Promise<T>,
): Promise<T> {
  const parts = parseModelTrainOptions(options);
  const name = parts.objective?.name ?? objectiveOf(engine.base).name;
  if (name !== causalLm.name) {
    throw new UserError(`ranks and starts are planned for next tokens, not for ${name}`);
  }
  const { batchSize, microBatchTokens, seed } = parts.hyper;
  const { train, close } = await examplesOf(engine, causalLm, parts);
  try {
    return await plan(train.examples, { batchSize, microBatchTokens, seed });
  } finally {
    await close();
  }
}

/** See Model.evaluate. */
export async function evaluateOn(
  engine: Engine,
  snapshot: Promise<Active>,
  given: DataSource,
  options: EvaluateOptions,
): Promise<Evaluation> {
  checkArguments('evaluate', [given, options]);
  const { maxLength, lossOn = 'completion', addEos = false, generate, ...others } = options;
  const { onProgress, signal, ...asked } = others;
  const { runtime, session, tokenizer } = engine;
  const active = await snapshot;
  const { base, adapter } = active;
  const objective = objectiveFor(base, parseObjective('evaluate options', asked));
  if (generate && objective.batching.rows > 1) {
    throw new UserError(`generate: the rows of objective ${objective.name} are no questions with one answer`);
  }
  const work = endingWith(engine.closed, { onProgress, signal });
  work.signal?.throwIfAborted();
  // Both are read first, so that what is wrong with a row is told before anything is computed.
  const data = generate ? await rereadable(given) : given;
  const rows =
    generate && (await loadAsked(data, tokenizer, objective, roomOf(base, adapter), generate, work));
  refuseNewHead(base, adapter);
  const limits = { maxLength: exampleLimit(base, adapter, maxLength), lossOn, addEos };
  const loaded = await loadExamples(data, objective.reading, tokenizer, limits, work);
  const measured = measureOn({ runtime, session }, active, objective, loaded, work);
  const evaluation = await measured.finally(() => loaded.close());
  if (!rows) return evaluation;
  return { ...evaluation, generations: await answersTo(rows, engine, active, generate, work) };
}

async function measureOn<E>(
  { runtime, session }: Pick<Engine, 'runtime' | 'session'>,
  { base, adapter }: Active,
  objective: Objective<E>,
  { examples: read, stats }: Pick<Examples<E>, 'examples' | 'stats'>,
  work: WorkOptions,
): Promise<Evaluation> {
  const examples = await preparedOn({ runtime, session }, base, objective, read, work);
  const evaluator = await Evaluator.create(runtime, base, adapter, objective, session);
  try {
    const found = await evaluator.run(examples, EVAL_MICRO_BATCH_TOKENS, work.signal);
    const { rows, truncated, dropped, unanswered } = stats;
    return { ...found, units: objective.units, rows, truncated, dropped, unanswered };
  } finally {
    await evaluator.close();
  }
}

async function examplesOf<E, C extends Content>(
  engine: Engine,
  { reading }: Pick<Objective<E, C>, 'reading'>,
  { sources, hyper, lossOn, addEos, maxLength, onData, work }: ModelTrainParts,
  adapter?: Adapter,
) {
  const limits = { lossOn, addEos, maxLength: exampleLimit(engine.base, adapter, maxLength) };
  const wanted = { ...sources, seed: hyper.seed };
  const { train, evaluation } = await loadTrainingExamples(
    wanted,
    reading,
    engine.tokenizer,
    limits,
    endingWith(engine.closed, work),
  );
  onData?.({ train: train.stats, eval: evaluation?.stats });
  const close = async () => {
    await train.close();
    await evaluation?.close();
  };
  return { train, evaluation, limits, close };
}

/** Examples that were read. */
interface Loaded {
  examples: ExampleSource<unknown>;
}

/** Throws UserError where the CPU's memory is not enough by far. */
function checkMemory(
  { base, session }: Engine,
  adapter: Adapter,
  objective: Objective,
  { hyper, memory }: ModelTrainParts,
  { train, evaluation }: { train: Loaded; evaluation?: Loaded },
): void {
  if (memory === undefined || (session.device ?? 'cpu') !== 'cpu') return;
  const { batching } = objective;
  const evaluated = evaluation && longestOf(evaluation.examples, batching);
  const longest = longestOf(train.examples, batching);
  const rowsOfExample = rowsOfExamples(train.examples, batching);
  refuseBeyondMemory({ base, adapter, objective, hyper, longest, evaluated, rowsOfExample }, memory);
}

function loopOn(
  { runtime, base: model, session }: Engine,
  adapter: Adapter,
  objective: Objective,
  work: WorkOptions,
) {
  return { runtime, model, adapter, objective, session, ...work };
}

/** Examples with what the objective has to know of them: what is compared with is the base alone. */
async function preparedOn<E>(
  { runtime, session }: Pick<Engine, 'runtime' | 'session'>,
  model: BaseModel,
  { preparation }: Objective<E>,
  examples: ExampleSource<E>,
  work: WorkOptions,
): Promise<ExampleSource<E>> {
  if (!preparation) return examples;
  const microBatchTokens = EVAL_MICRO_BATCH_TOKENS;
  const context = { runtime, model, adapter: undefined, session, microBatchTokens, ...work };
  const [found] = await prepared(preparation, [examples], context);
  return found;
}

/** Positions behind the virtual tokens of an adapter. */
function roomOf({ config }: Pick<BaseModel, 'config'>, adapter: Adapter | undefined): number {
  return config.maxPositions - virtualCount(adapter) - prefixLength(adapter);
}

/** The most tokens of an example. Throws UserError where there are no positions for so many behind the adapter's. */
export function exampleLimit(
  base: Pick<BaseModel, 'config'>,
  adapter: Adapter | undefined,
  wanted: number | undefined,
): number {
  const { maxPositions, task } = base.config;
  const room = roomOf(base, adapter);
  const virtual = maxPositions - room;
  const before = virtual > 0 ? ` behind the adapter's ${virtual} virtual tokens` : '';
  if (room < 2) {
    throw new UserError(
      `the adapter's ${virtual} virtual tokens leave no room in the model's ${maxPositions} positions`,
    );
  }
  if (wanted !== undefined && wanted > room) {
    throw new UserError(
      `a maximum length of ${wanted}${before} is more than the model's ${maxPositions} positions: at most ${room} fit`,
    );
  }
  const own = task?.kind === 'embedding' ? task.maxLength : undefined;
  return wanted ?? Math.min(own ?? DEFAULT_MAX_LENGTH, room);
}
