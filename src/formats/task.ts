/** What a model answers, where that is not the next token. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from './io/json.js';

/** Tasks, in the order in which errors and help name them. */
export const TASKS = ['sequence-classification', 'regression', 'token-classification', 'embedding'] as const;
export type TaskKind = (typeof TASKS)[number];

/** Which of a text's hidden states its vector is made of: their mean, that of the first token, or of the last. */
export const POOLINGS = ['mean', 'cls', 'last'] as const;
export type EmbeddingPooling = (typeof POOLINGS)[number];

/** A vector for each text, whose cosine to another's tells how alike they are. */
export interface EmbeddingTask {
  readonly kind: 'embedding';
  readonly pooling: EmbeddingPooling;
  /** Whether vectors have length 1. */
  readonly normalize: boolean;
  /** Tokens of the longest text that it was made for; longer ones are cut. Absent: as many as the model has positions. */
  readonly maxLength?: number;
}

export type Task =
  /** One of `labels` for each row, or for each token. */
  | { readonly kind: 'sequence-classification' | 'token-classification'; readonly labels: readonly string[] }
  /** A number for each row. */
  | { readonly kind: 'regression' }
  | EmbeddingTask;

/** A task that a head answers. */
export type HeadTask = Exclude<Task, EmbeddingTask>;

/** How many numbers a task's head gives. */
export function outputsOf(task: HeadTask): number {
  return task.kind === 'regression' ? 1 : task.labels.length;
}

export function sameTask(a: Task | undefined, b: Task | undefined): boolean {
  const keys = new Set(Object.keys({ ...a, ...b }) as (keyof Task)[]);
  return !a === !b && [...keys].every((key) => String(a?.[key]) === String(b?.[key]));
}

const headKeys = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  problem_type: z.string().nullish(),
  num_labels: z.int().positive().optional(),
  id2label: z.record(z.string(), z.string()).nullish(),
});

/** The labels of transformers, which has two where config.json names none. */
const DEFAULT_LABELS = 2;

/**
 * The task of a config.json, as transformers tells it: by the class that the weights are of, `id2label` and `problem_type`.
 * undefined for a model without a task's head. Throws UserError where the labels have no order or the task is another one.
 */
export function taskOfConfig(place: string, config: unknown): Task | undefined {
  const { architectures, problem_type, num_labels, id2label } = checkJson(place, config, headKeys);
  const kind = /For(Sequence|Token)Classification$/.exec(architectures?.[0] ?? '')?.[1];
  if (kind === undefined) return undefined;
  if (problem_type === 'multi_label_classification') {
    throw new UserError(
      `${place}: key "problem_type": several labels a row are not supported, expected one label or a number`,
    );
  }
  const labels = id2label
    ? orderedLabels(place, id2label)
    : Array.from({ length: num_labels ?? DEFAULT_LABELS }, (_, i) => `LABEL_${i}`);
  if (kind === 'Token') return { kind: 'token-classification', labels };
  const isNumber = problem_type === 'regression' || (problem_type == null && labels.length === 1);
  return isNumber ? { kind: 'regression' } : { kind: 'sequence-classification', labels };
}

function orderedLabels(place: string, id2label: Readonly<Record<string, string>>): string[] {
  const labels = Object.keys(id2label).map((_, i) => id2label[String(i)]);
  if (labels.some((label) => label === undefined)) {
    throw new UserError(
      `${place}: key "id2label": expected the numbers 0 to ${labels.length - 1}, each with its label, found ${Object.keys(id2label).join(', ')}`,
    );
  }
  if (new Set(labels).size < labels.length) {
    throw new UserError(`${place}: key "id2label": two numbers have one label`);
  }
  return labels;
}

/** Of model types whose name does not tell it: what transformers' classes begin with. */
const CLASSES: Readonly<Record<string, string>> = {
  bert: 'Bert',
  roberta: 'Roberta',
  'xlm-roberta': 'XLMRoberta',
  distilbert: 'DistilBert',
  'deberta-v2': 'DebertaV2',
  modernbert: 'ModernBert',
};

/** What a config.json says of a task, for transformers: its class, and its labels by number. Of embeddings it says nothing. */
export function taskKeys(config: Readonly<Record<string, unknown>>, task: Task): Record<string, unknown> {
  if (task.kind === 'embedding') return {};
  const labels = task.kind === 'regression' ? ['LABEL_0'] : task.labels;
  const own = Array.isArray(config.architectures) ? String(config.architectures[0]) : '';
  const stem = own.replace(/(For\w+|LMHeadModel|Model)$/, '') || CLASSES[String(config.model_type)];
  const end = task.kind === 'token-classification' ? 'ForTokenClassification' : 'ForSequenceClassification';
  return {
    ...(stem && { architectures: [`${stem}${end}`] }),
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
    ...(task.kind !== 'token-classification' && {
      problem_type: task.kind === 'regression' ? 'regression' : 'single_label_classification',
    }),
  };
}

const label = z.string().min(1);
export const taskSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.enum(['sequence-classification', 'token-classification']),
    labels: z
      .array(label)
      .min(2)
      .refine((labels) => new Set(labels).size === labels.length, 'expected labels that differ'),
  }),
  z.strictObject({ kind: z.literal('regression') }),
  z.strictObject({
    kind: z.literal('embedding'),
    pooling: z.enum(POOLINGS),
    normalize: z.boolean(),
    maxLength: z.int().min(2).optional(),
  }),
]);

/** Checks a task. Throws UserError, prefixed with `place`, on one that is none. */
export function parseTask(place: string, value: unknown): Task {
  return checkJson(place, value, taskSchema);
}

/** What PEFT calls it (TaskType). */
export function peftTaskType(task: Task | undefined): string {
  if (!task) return 'CAUSAL_LM';
  if (task.kind === 'embedding') return 'FEATURE_EXTRACTION';
  return task.kind === 'token-classification' ? 'TOKEN_CLS' : 'SEQ_CLS';
}

/** Modules that PEFT saves of a classifier, whatever modules_to_save says. */
export const PEFT_HEADS: readonly string[] = ['classifier', 'score'];
