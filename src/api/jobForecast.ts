/** What jobs would take in memory, forecast before they begin: from shapes and rows alone. */
import { once } from '../base/once.js';
import type { WorkOptions } from '../base/work.js';
import { readChatTemplate } from '../formats/chatTemplates.js';
import { loadTokenizer } from '../formats/tokenizer.js';
import { type Adapter, emptyState } from '../methods/adapter.js';
import { trainablesOf } from '../methods/head.js';
import { methodNamed } from '../methods/index.js';
import { type BaseModel, openModel } from '../models/base.js';
import { forTask } from '../models/forTask.js';
import { imaginedModel } from '../models/imagined.js';
import type { Objective } from '../train/objective.js';
import { objectiveFor } from '../train/objectives/named.js';
import { loadTrainingExamples } from './data.js';
import type { Job } from './job.js';
import { type LocateOptions, resolveModelFolder } from './locate.js';
import { forecastMemory, longestOf, rowsOfExamples, storedAs } from './memoryCheck.js';
import { labelsOf, taskAsked, taskFor } from './task.js';
import { exampleLimit } from './training.js';

/** Tokens of the longest examples, and rows that each of them takes. */
interface Lengths {
  longest: number;
  evaluated?: number;
  rowsOfExample: number;
}

/** Forecasts of many jobs that share models and rows, each of which is read once. */
export class MemoryForecasts {
  private readonly bases = new Map<string, Promise<BaseModel>>();
  private readonly lengths = new Map<string, Promise<Lengths>>();
  private readonly found = new Map<string, Promise<number>>();

  constructor(private readonly options: LocateOptions & WorkOptions = {}) {}

  /**
   * The most bytes that a job takes, by `trainingMemory`; undefined where its data or an adapter have a say in what it trains,
   * or it runs on another device than the CPU. Throws UserError where the model or the rows cannot be read.
   */
  async of(job: Job): Promise<number | undefined> {
    const { adapter: further, ranks, eva, device, method: name, methodOptions: config, train: hyper } = job;
    if (further !== undefined || ranks || eva || device !== 'cpu') return undefined;
    const base = await this.baseOf(job);
    const method = methodNamed(name);
    const adapter: Adapter = {
      method,
      config,
      trainables: trainablesOf(method, config, base),
      values: new Map(),
      state: emptyState(),
    };
    const objective = objectiveFor(base, job.objective);
    const lengths = await this.lengthsOf(job, base, adapter, objective);
    const { seed: _, learningRate: __, maxSteps: ___, epochs: ____, ...sized } = hyper;
    const key = JSON.stringify([job.model, job.quantize, job.objective, name, config, sized, lengths]);
    return once(this.found, key, async () => forecastMemory({ base, adapter, objective, hyper, ...lengths }));
  }

  /** By its shapes: a quantized copy need not be there. */
  private baseOf(job: Job): Promise<BaseModel> {
    const { model, quantize, data } = job;
    const asking = taskAsked(job);
    return once(this.bases, JSON.stringify([model, quantize, asking, asking && data]), async () => {
      const opened = await openModel(await resolveModelFolder(model, this.options), this.options);
      const asked = asking && (await taskFor(opened, asking, () => labelsOf(asking.kind, data)));
      const base = asked ? forTask(opened, asked) : opened;
      if (quantize === undefined || base.quantized.size > 0) return base;
      return { ...imaginedModel(base.config, storedAs(base), quantize), folder: base.folder };
    });
  }

  private lengthsOf(
    job: Job,
    base: BaseModel,
    adapter: Adapter,
    { name, reading, batching }: Objective,
  ): Promise<Lengths> {
    const { data, evalData, evalSplit, lossOn, addEos, chatTemplate } = job;
    const limits = { lossOn, addEos, maxLength: exampleLimit(base, adapter, job.maxLength) };
    // Which rows are held out is a matter of the seed.
    const { seed } = job.train;
    const split = evalSplit === undefined ? {} : { evalSplit, seed };
    const key = JSON.stringify([
      job.model,
      base.config.task,
      name,
      chatTemplate,
      data,
      evalData,
      split,
      limits,
    ]);
    return once(this.lengths, key, async () => {
      const { folder } = base;
      const own = await loadTokenizer(folder);
      const tokenizer =
        chatTemplate === undefined ? own : own.withTemplates(await readChatTemplate(chatTemplate));
      const { train, evaluation } = await loadTrainingExamples(
        { data, evalData, evalSplit, seed },
        reading,
        { tokenizer, folder, model: folder },
        limits,
        this.options,
      );
      try {
        return {
          longest: longestOf(train.examples, batching),
          rowsOfExample: rowsOfExamples(train.examples, batching),
          ...(evaluation && { evaluated: longestOf(evaluation.examples, batching) }),
        };
      } finally {
        await train.close();
        await evaluation?.close();
      }
    });
  }
}
