import type { WorkOptions } from '../base/work.js';
import type { EncodeRowsOptions, EncodeStats } from '../train/data/encode.js';
import { type AskedObjective, type ObjectiveInput, parseObjective } from '../train/objectives/named.js';
import { parseTrainOptions, type TrainInput, type TrainOptions } from '../train/options.js';
import type { DataSource } from './data.js';
import { availableMemory } from './memoryCheck.js';
import { parseSampleOptions, type SampleInput, type SampleOptions } from './samples.js';

/** What training is given besides hyper-parameters. */
export interface ModelTrainOptions extends TrainInput, SampleInput, ObjectiveInput, WorkOptions {
  data: DataSource;
  evalData?: DataSource;
  /** Without evalData: rows of `data` held out by the seed, as a share below 1 or a number from 1 on. */
  evalSplit?: number;
  /** Loss on the completion or assistant turns only (the paper's conditional objective), or on everything. */
  lossOn?: EncodeRowsOptions['lossOn'];
  /** Ends the assistant's turns with EOS where the chat template writes no end token. Default false. */
  addEos?: boolean;
  /** Longest example in tokens; longer ones are cut and counted. Default: 1024 or the model's own limit. */
  maxLength?: number;
  /** Run folder: checkpoints go there. */
  run?: string;
  resume?: boolean;
  onData?: (stats: { train: EncodeStats; eval?: EncodeStats }) => void;
  /** Begins also where the forecast says that the memory is not enough. Default false. */
  ignoreMemory?: boolean;
  /** Bytes that it may take. Default: what the machine has free, or a container's limit. */
  availableMemory?: number;
}

/** The same, checked, and each part by itself. */
export interface ModelTrainParts extends Pick<ModelTrainOptions, 'maxLength' | 'onData'> {
  sources: Pick<ModelTrainOptions, 'data' | 'evalData' | 'evalSplit'>;
  lossOn: NonNullable<ModelTrainOptions['lossOn']>;
  addEos: boolean;
  /** What was asked for; undefined: what the model is for. */
  objective: AskedObjective | undefined;
  work: WorkOptions;
  hyper: TrainOptions;
  samples: SampleOptions;
  /** Bytes that it may take; undefined where that is not looked at. */
  memory: number | undefined;
}

/** Takes the options of a training job apart. Throws UserError on one that is unknown or wrong. */
export function parseModelTrainOptions(options: ModelTrainOptions): ModelTrainParts {
  const { data, evalData, evalSplit, lossOn = 'completion', addEos = false, ...others } = options;
  const { maxLength, onData, ignoreMemory = false, availableMemory: available, ...rest } = others;
  const { sampleSteps, samplePrompt, sampleChat, sampleMaxTokens, ...more } = rest;
  const { run, resume, onProgress, signal, ...trained } = more;
  const { objective, beta, lossType, labelSmoothing, ...hyper } = trained;
  const place = 'training options';
  return {
    sources: { data, evalData, evalSplit },
    lossOn,
    addEos,
    maxLength,
    onData,
    objective: parseObjective(place, { objective, beta, lossType, labelSmoothing }),
    work: { onProgress, signal },
    hyper: parseTrainOptions(place, hyper),
    memory: ignoreMemory ? undefined : (available ?? availableMemory()),
    samples: parseSampleOptions(place, { sampleSteps, samplePrompt, sampleChat, sampleMaxTokens }),
  };
}
