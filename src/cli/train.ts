import * as z from 'zod';
import { readConfigFile } from '../api/configFile.js';
import { curvesOf } from '../api/curves.js';
import { type Job, jobGroups, jobSchema, resolveJob } from '../api/job.js';
import { METRICS, type Metrics } from '../api/metric.js';
import type { Model } from '../api/model.js';
import { type Opening, openingOf } from '../api/opening.js';
import { type JobEvent, openJob, runJob, withMethodOf } from '../api/run.js';
import { RunFolder, readMetrics, readUnfinishedRun } from '../api/runFolder.js';
import { kebabCase } from '../base/names.js';
import { methodNamed } from '../methods/index.js';
import type { EncodeStats } from '../train/data/encode.js';
import { lrRangeSchema } from '../train/lrFinder.js';
import { type CommandSpec, type ExitCode, exitCodes, UsageError } from './command.js';
import { locating } from './download.js';
import { findLrForJob } from './findLr.js';
import { shellWord, toFlags } from './flags.js';
import { generateHint, mergeHint, predictHint, type Use } from './hints.js';
import { onInterrupt } from './interrupt.js';
import { commandLine } from './invocation.js';
import { jsonOption } from './options.js';
import { Progress } from './progress.js';
import { chooseRanks } from './ranks.js';
import { curveLines } from './sparkline.js';
import type { Terminal } from './terminal.js';
import { count, counted, elapsed, percent, short, table } from './text.js';
import { showsWork } from './work.js';

const runShape = {
  config: z
    .string()
    .min(1)
    .meta({ valueName: 'file' })
    .optional()
    .describe('YAML or JSON file with any of these options; flags win over it'),
  resume: z.boolean().default(false).describe('go on with the unfinished run in --output'),
  overwrite: z.boolean().default(false).describe('replace the run or adapter in --output'),
  json: jsonOption,
};
const runSchema = z.object(runShape);

const findShape = {
  findLr: z
    .boolean()
    .default(false)
    .describe('instead of training, try growing learning rates for some steps and suggest one'),
  ...lrRangeSchema.shape,
};
const findSchema = z.object(findShape);

export const train: CommandSpec = {
  name: 'train',
  summary: 'train a LoRA adapter (or the whole model) on your own rows',
  description:
    "The adapter is written to --output, in PEFT's format where PEFT has one. Ctrl-C saves a checkpoint; --resume goes on from it.\n" +
    "Options may also stand in a config file, as learningRate or learning_rate; PEFT's keys are the same.",
  groups: { Run: runShape, ...jobGroups, 'Learning rate': findShape },
  common: [
    ...[
      'config',
      'resume',
      'overwrite',
      'model',
      'data',
      'evalData',
      'evalSplit',
      'output',
      'method',
      'quantize',
    ],
    ...['maxLength', 'r', 'loraAlpha', 'loraDropout', 'targetModules', 'epochs', 'maxSteps', 'batchSize'],
    ...[
      'learningRate',
      'schedule',
      'packing',
      'gradientCheckpointing',
      'evalSteps',
      'sampleSteps',
      'findLr',
      'json',
    ],
  ],
  examples: [
    'lowrank train --model ./SmolLM2-135M-Instruct --data train.jsonl --output my-adapter',
    'lowrank train --model m.gguf --data train.jsonl --eval-data held-out.jsonl --output my-adapter ' +
      '--r 16 --lora-alpha 32 --target-modules all-linear --epochs 3 --learning-rate 1e-4',
    'lowrank train --config run.yaml --output another',
    'lowrank train --output my-adapter --resume',
    'lowrank train --model ./SmolLM2-135M-Instruct --adapter my-adapter --data more.jsonl --output further',
    'lowrank train --config run.yaml --find-lr',
  ],
  async run(typed, terminal) {
    const { config, resume, overwrite } = runSchema.parse(typed);
    const find = findSchema.parse(typed);
    const own = Object.keys({ ...runShape, ...findShape });
    const flags = Object.fromEntries(Object.entries(typed).filter(([name]) => !own.includes(name)));
    const given = { ...(config !== undefined && (await readConfigFile(config, jobSchema))), ...flags };
    if (typeof given.output !== 'string') throw missing('output');
    const before = resume ? await readUnfinishedRun(given.output) : undefined;
    const options = { ...before?.options, ...given };
    for (const name of ['model', 'data']) if (options[name] === undefined) throw missing(name);
    const { model, data, output } = options;
    const job = resolveJob(options);
    const commandOf = (options: Readonly<Record<string, unknown>>) =>
      ['lowrank train', ...toFlags(jobSchema.shape, options)].join(' ');
    const typedAll = { model, data, output, ...given };
    if (find.findLr) {
      if (resume) throw new UsageError('a run that goes on keeps its learning rate: no --find-lr');
      const { findLr: _, ...range } = find;
      const command = commandOf({ ...typedAll, learningRate: undefined });
      return findLrForJob(job, terminal, { ...range, overwrite, command });
    }
    const stray = Object.keys(lrRangeSchema.shape).find((name) => typed[name] !== undefined);
    if (stray) throw new UsageError(`--${kebabCase(stray)} is for --find-lr`);
    // What a resume may change does not change the result.
    const command = before?.command ?? commandOf(typedAll);
    return runTraining(job, terminal, { resume, overwrite, command });
  },
};

function missing(name: string): UsageError {
  return new UsageError(`--${name} is missing; give it as a flag or in a config file (see --help)`);
}

interface TrainingHooks {
  resume?: boolean;
  overwrite?: boolean;
  /** What to type to do the same again. */
  command: string;
  /** Called with the model before training. */
  prepared?: (model: Model) => Promise<void>;
  /** Called with the trained model, its result saved. */
  finished?: (model: Model) => Promise<void>;
}

/** What a run is at: until its first event, from there to the end of its first step, and behind that. */
type Phase = 'preparing' | 'starting' | 'training';

const STOPPING: Readonly<Record<Phase, string>> = {
  preparing: 'stopping before the first step',
  starting: 'stopping',
  training: 'stopping after this step, with a checkpoint',
};

/** Runs a job to its end, telling of it. */
export async function runTraining(job: Job, terminal: Terminal, hooks: TrainingHooks): Promise<ExitCode> {
  const inputs = [job.model, ...job.data, ...(job.evalData ?? []), job.adapter].filter(
    (input) => input !== undefined,
  );
  const folder = await RunFolder.claim(job.output, { ...hooks, inputs });
  try {
    return await trainInFolder(job, folder, terminal, hooks);
  } finally {
    await folder.release();
  }
}

async function trainInFolder(
  job: Job,
  folder: RunFolder,
  terminal: Terminal,
  hooks: TrainingHooks,
): Promise<ExitCode> {
  // Ctrl-C while the model is fetched or converted stops at once: there is nothing to save.
  const model = await openJob(job, { ...locating(terminal), onProgress: showsWork(terminal) });
  const interrupted = new AbortController();
  let phase: Phase = 'preparing';
  const onPhase = (next: Phase) => {
    phase = next;
  };
  const release = onInterrupt(() => {
    interrupted.abort();
    terminal.say(`${STOPPING[phase]}; Ctrl-C again stops at once`);
  });
  try {
    const chosen = withMethodOf(model, await chooseRanks(model, job, terminal, interrupted.signal));
    const { signal } = interrupted;
    return await trainModel(model, chosen, folder, terminal, { ...hooks, signal, onPhase });
  } catch (error) {
    if (!interrupted.signal.aborted || error !== interrupted.signal.reason) throw error;
    return exitCodes.interrupted;
  } finally {
    release();
    await model.close();
  }
}

async function trainModel(
  model: Model,
  job: Job,
  folder: RunFolder,
  terminal: Terminal,
  {
    resume = false,
    command,
    prepared,
    finished,
    signal,
    onPhase,
  }: TrainingHooks & { signal: AbortSignal; onPhase: (phase: Phase) => void },
): Promise<ExitCode> {
  tellModel(job, model, terminal);
  await prepared?.(model);
  const progress = new Progress(terminal);
  let stepped = false;
  let opening: Opening | undefined;
  const work = { onProgress: showsWork(terminal), signal };
  for await (const event of runJob(model, job, folder, { resume, command, ...work })) {
    if (event.kind === 'start') onPhase('starting');
    if (event.kind === 'step') onPhase('training');
    terminal.emit(event);
    progress.show(event);
    if (event.kind === 'end') await tellCurves(folder, terminal);
    if (event.kind === 'stopped') return tellStopped(event, job, terminal);
    tell(event, resume, terminal);
    if (event.kind === 'data' && isGenerative(model)) {
      opening = await openingOf(job, model.tokenizer.chatTemplate !== undefined);
    }
    if (event.kind === 'saved') {
      await finished?.(model);
      tellSummary(model, terminal);
      tellSaved(
        event,
        job,
        isGenerative(model) ? (use) => generateHint(use, opening) : predictHint,
        terminal,
      );
    }
    stepped ||= event.kind === 'step';
    if (signal.aborted && !stepped) {
      terminal.say('stopped before the first step');
      return exitCodes.interrupted;
    }
  }
  return exitCodes.ok;
}

function tellModel(job: Job, model: Model, terminal: Terminal): void {
  const { total, trainable } = model.parameters;
  const { modelType, layers } = model.base.config;
  terminal.emit({ kind: 'model', model: job.model, modelType, layers, parameters: total, trainable });
  terminal.say(
    `model     ${job.model} (${modelType}, ${counted(layers, 'layer')}, ${short(total)} parameters)`,
  );
  terminal.say(
    `trains    ${counted(trainable, 'parameter')}, ${percent(trainable / total)} of it, by ${job.method}`,
  );
}

function tell(event: JobEvent, resume: boolean, terminal: Terminal): void {
  if (event.kind === 'data') {
    terminal.say(`data      ${describeData(event.train)}`);
    for (const warning of dataWarnings(event.train)) terminal.say(`warning   ${warning}`);
    if (event.eval) terminal.say(`held out  ${describeData(event.eval)}`);
  }
  if (event.kind === 'start') {
    for (const damage of event.damaged ?? []) terminal.note(`${damage}; an earlier checkpoint is used`);
    if (event.resumed) terminal.say(`goes on after step ${event.step} of ${event.steps}`);
    else if (resume) terminal.say('there is no checkpoint yet: starting from the beginning');
    terminal.say(`steps     ${count(event.steps)} (${counted(Number(event.epochs.toFixed(2)), 'epoch')})`);
  }
}

function describeData(stats: EncodeStats): string {
  const { rows, examples, tokens, supervisedTokens, truncated, dropped, unanswered } = stats;
  const parts = [
    `${counted(rows, 'row')}, ${counted(tokens, 'token')}, ${count(supervisedTokens)} of them learned`,
  ];
  if (examples !== rows - dropped) parts.push(`${counted(examples, 'example')}`);
  if (truncated > 0) parts.push(`${count(truncated)} cut (--max-length)`);
  if (unanswered > 0) parts.push(`${count(unanswered)} left out: no turn of the assistant to learn`);
  if (dropped > unanswered) {
    parts.push(`${count(dropped - unanswered)} left out: nothing to learn within the length`);
  }
  return parts.join('; ');
}

/** What of the rows the user may not have meant. */
function* dataWarnings(stats: EncodeStats): Generator<string> {
  const { examples, truncated, unended, empty, startedTwice, alike, cutTurns, unread } = stats;
  const whole = examples - truncated;
  if (unended > 0) {
    const which =
      unended === whole
        ? 'the chat template ends no turn'
        : `in ${counted(unended, 'example')} the last turn does not end`;
    yield `${which} with an end token, so the model does not learn to stop; --add-eos adds one`;
  }
  if (unread.length > 0) {
    const keys = unread.map((key) => JSON.stringify(key)).join(', ');
    yield `the chat template does not read ${keys}: nothing is learned of it`;
  }
  if (cutTurns > 0)
    yield `the chat template leaves out some of what the assistant says (as <think>) in ${counted(cutTurns, 'turn')}`;
  if (startedTwice > 0)
    yield `${counted(startedTwice, 'row')} spell the token that the tokenizer puts before each text too: it stands there twice, as in transformers`;
  if (alike > 0)
    yield `${counted(alike, 'pair')} whose two answers are the same within the length: nothing is learned of which is better`;
  if (empty > 0) yield `${counted(empty, 'row')} with an empty completion: only to stop is learned of it`;
}

/** The loss curves of the whole run, of what came before a resume too. */
async function tellCurves(folder: RunFolder, terminal: Terminal): Promise<void> {
  const columns = terminal.columns ?? Number.POSITIVE_INFINITY;
  const curves = curvesOf(await readMetrics(folder.path));
  for (const line of curveLines(curves, columns)) terminal.say(line);
}

function tellStopped(event: Extract<JobEvent, { kind: 'stopped' }>, job: Job, terminal: Terminal): ExitCode {
  terminal.say(`stopped after step ${event.step} of ${event.steps}; checkpoint: ${event.folder}`);
  terminal.say(`to go on: ${commandLine(`train --output ${shellWord(job.output)} --resume`)}`);
  return exitCodes.interrupted;
}

/** What the method made of the adapter, as the ranks that AdaLoRA left. */
function tellSummary({ adapter }: Model, terminal: Terminal): void {
  const rows = adapter?.method.summary?.(adapter.config, adapter.values);
  if (!rows) return;
  terminal.emit({ kind: 'summary', rows });
  for (const line of table(rows)) terminal.say(line);
}

/** Whether it predicts tokens, so that its result is tried by generating. */
function isGenerative({ base }: Model): boolean {
  return base.network.lmHead !== undefined;
}

/** What was measured beside the loss, each before and after. */
function measured({ before, after }: { before: Metrics; after: Metrics }): string[] {
  return Object.entries(METRICS).flatMap(([name, { title, digits }]) => {
    const [was, is] = [before, after].map((of) => of[name as keyof Metrics]);
    if (is === undefined) return [];
    return [`${title} ${was === undefined ? '' : `${was.toFixed(digits)} -> `}${is.toFixed(digits)}`];
  });
}

function tellSaved(
  event: Extract<JobEvent, { kind: 'saved' }>,
  job: Job,
  hint: (use: Use) => string,
  terminal: Terminal,
): void {
  const { folder, what, heldOut, seconds, steps, early, warnings, verdict } = event;
  const remark = early ? '; stopped early, the held-out loss got no better' : '';
  terminal.say(`trained   ${counted(steps, 'step')} in ${elapsed(seconds)}${remark}`);
  if (heldOut) {
    const { before, after, step, metrics } = heldOut;
    terminal.say(
      terminal.style('bold', `held-out loss ${before.toFixed(4)} -> ${after.toFixed(4)}`) +
        ` (${measured(metrics).join(', ')}), of step ${step}`,
    );
  }
  for (const { message } of warnings) terminal.say(terminal.style('bold', `warning   ${message}`));
  for (const { message } of verdict) terminal.say(`verdict   ${message}`);
  if (what === 'model') {
    terminal.say(`model     ${folder}`);
    terminal.say(`to use it: ${hint({ model: folder })}`);
    return;
  }
  const { card } = methodNamed(job.method);
  terminal.say(`adapter   ${folder} (${card.peft === null ? "lowrank's own format" : "PEFT's format"})`);
  terminal.say('to use it:');
  const use = { model: job.model, quantize: job.quantize, adapter: folder };
  terminal.say(`  ${hint(use)}`);
  if (card.merges) terminal.say(`  ${mergeHint(use)}`);
}
