/** What a model is to answer: as it is asked for, and as an adapter's folder says it. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { exists, readJson } from '../formats/io/node.js';
import { readSafetensorsHeader } from '../formats/safetensors.js';
import { readSentenceTask } from '../formats/sentenceModules.js';
import { type EmbeddingPooling, parseTask, type Task, type TaskKind } from '../formats/task.js';
import { readTask } from '../formats/taskFile.js';
import type { BaseModel } from '../models/base.js';
import { forTask } from '../models/forTask.js';
import { type Label, type LabelledContent, labelledForms, labelsIn } from '../train/data/labelled.js';
import { type TaggedContent, taggedForms } from '../train/data/tagged.js';
import { type DataSource, rowsOfSource } from './data.js';

/** A task as it is asked for. */
export interface TaskInput {
  kind: TaskKind;
  /** Of a classifier, in the order of their numbers; default: those of the model's own head. */
  labels?: readonly string[];
  /** Of embeddings; default: what the model's modules.json says, or of an encoder the mean, of a decoder the last token. */
  pooling?: EmbeddingPooling;
  /** Whether embeddings have length 1; default: what the model's modules.json says, or that they have. */
  normalize?: boolean;
}

/** A task in the words of a job or a command; undefined where none is asked for. Throws UserError for options of another one. */
export function taskAsked({
  task: kind,
  ...options
}: { task?: TaskKind } & Omit<TaskInput, 'kind'>): TaskInput | undefined {
  const { labels, pooling, normalize } = options;
  const isClassifier = kind === 'sequence-classification' || kind === 'token-classification';
  if (labels && !isClassifier) {
    throw new UserError('the option "labels" is for a classifier: --task sequence-classification');
  }
  const stray = pooling ? 'pooling' : normalize !== undefined ? 'normalize' : undefined;
  if (stray && kind !== 'embedding') {
    throw new UserError(`the option "${stray}" is for embeddings: --task embedding`);
  }
  if (!kind) return undefined;
  return {
    kind,
    ...(labels && { labels }),
    ...(pooling && { pooling }),
    ...(normalize !== undefined && { normalize }),
  };
}

/** The task of a base that was asked for. `labelsOf` finds its labels where neither it nor the base has any. */
export async function taskFor(
  { config, folder, network }: BaseModel,
  { kind, labels, pooling, normalize }: TaskInput,
  labelsOf?: () => Promise<readonly string[]>,
): Promise<Task> {
  const place = 'the task';
  if (kind === 'embedding') {
    const known = config.task?.kind === kind ? config.task : await readSentenceTask(folder);
    const usual = { pooling: network.stream.attends === 'both' ? 'mean' : 'last', normalize: true };
    return parseTask(place, {
      ...usual,
      ...known,
      kind,
      ...(pooling && { pooling }),
      ...(normalize !== undefined && { normalize }),
      ...(labels && { labels }),
    });
  }
  if (kind === 'regression') return parseTask(place, { kind, ...(labels && { labels }) });
  const own = config.task?.kind === kind ? config.task.labels : undefined;
  const found = labels ?? own ?? (await labelsOf?.());
  if (!found) {
    throw new UserError(
      `${folder} has no head for ${kind}: name the labels that it is to tell apart, or read them from rows with labelsOf`,
    );
  }
  return parseTask(place, { kind, labels: [...found] });
}

/**
 * The labels that training rows have, in the order of their numbers. Throws UserError naming the row that has none, or where
 * there are too few.
 */
export async function labelsOf(kind: TaskKind, data: DataSource): Promise<string[]> {
  if (kind === 'regression' || kind === 'embedding') throw new UserError(`${kind} has no labels`);
  const source = typeof data === 'string' ? data : Array.isArray(data) ? data.join(', ') : 'the data';
  if (kind === 'token-classification') {
    return labelsIn(taggedLabels(rowsOfSource(data, taggedForms({ needsLabels: true }))), source);
  }
  return labelsIn(rowLabels(rowsOfSource(data, labelledForms({ needsLabel: true }))), source);
}

async function* rowLabels(rows: AsyncIterable<LabelledContent>): AsyncGenerator<Label> {
  for await (const { label } of rows) yield label!;
}

async function* taggedLabels(rows: AsyncIterable<TaggedContent>): AsyncGenerator<Label> {
  for await (const { labels } of rows) yield* labels!;
}

const peftKeys = z.looseObject({ task_type: z.string().nullish() });
const HEAD_MATRIX = /\.(classifier|score)(\.out_proj)?\.weight$/;

/**
 * The task that an adapter's folder was trained for; undefined for one that predicts tokens. PEFT leaves the labels to the
 * base's config.json: where that has none, they are LABEL_0 and on, as in transformers.
 */
export async function taskOfAdapter(path: string, { config }: BaseModel): Promise<Task | undefined> {
  if (!(await stat(path)).isDirectory()) return undefined;
  const written = await readTask(path);
  if (written) return written;
  const place = join(path, 'adapter_config.json');
  if (!(await exists(place))) return undefined;
  const { task_type: type } = await readJson(place, peftKeys);
  if (type !== 'SEQ_CLS' && type !== 'TOKEN_CLS') return undefined;
  const weights = join(path, 'adapter_model.safetensors');
  if (!(await exists(weights))) return undefined;
  const { tensors } = await readSafetensorsHeader(weights);
  const matrix = [...tensors.values()].find(({ name }) => HEAD_MATRIX.test(name));
  if (!matrix) {
    throw new UserError(
      `${weights} has no classifier, and ${place} has task_type "${type}": save it with modules_to_save`,
    );
  }
  const [outputs] = matrix.shape;
  if (type === 'SEQ_CLS' && outputs === 1) return { kind: 'regression' };
  const kind = type === 'SEQ_CLS' ? 'sequence-classification' : 'token-classification';
  const own = config.task?.kind === kind ? config.task.labels : [];
  const labels = own.length === outputs ? own : Array.from({ length: outputs }, (_, i) => `LABEL_${i}`);
  return { kind, labels };
}

/** The base with the head that an adapter is for; itself where it predicts tokens, or has that head. */
export async function baseForAdapter(path: string, base: BaseModel): Promise<BaseModel> {
  const task = await taskOfAdapter(path, base);
  return task ? forTask(base, task) : base;
}
