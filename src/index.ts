/**
 * lowrank: LoRA fine-tuning for real models in Node.
 *
 * Start with {@link loadModel}; `model.addLora`, `model.train`, `model.generate`, `model.saveAdapter` and
 * `model.saveMerged` are the rest of the way.
 */
export type { ChangeFigures, ModuleAnalysis, Similarity } from './analysis/module.js';
export type { Finding } from './analysis/verdict.js';
export { type Analysis, type AnalyzeEvent, type AnalyzeInput, analyze } from './api/analyze.js';
export { type Combined, type CombineFilesOptions, combineIntoFolder } from './api/combine.js';
export { type Converted, type ConvertOptions, convert } from './api/convert.js';
export type { DataSource } from './api/data.js';
export type { EvaInput } from './api/eva.js';
export { type ExplainOptions, type Explanation, explain, explainTopics } from './api/explain/index.js';
export { type ExtractInput, extract, type ResizeInput, resize, type TruncationEvent } from './api/extract.js';
export type { Answer, AnsweringInput, Generations } from './api/generations.js';
export type { GenerationEnd, PromptOptions } from './api/generator.js';
export { type AdapterInspection, type InspectOptions, inspect, type ModelInspection } from './api/inspect.js';
export { loadModel } from './api/loadModel.js';
export type { LocateOptions } from './api/locate.js';
export type { SavedModel, SaveMergedOptions } from './api/merged.js';
export { type CountedMethodRow, countedMethodRows, type MethodRow, methodRows } from './api/methods.js';
export type { Metric } from './api/metric.js';
export { Model } from './api/model.js';
export type { AdapterOptions, AddOptions, LoadOptions } from './api/modelOptions.js';
export type { ModelTrainOptions } from './api/modelTrainOptions.js';
export type { RunWarning } from './api/outcome.js';
export { exportOnnx } from './api/output.js';
export { type Plan, type PlanOptions, plan } from './api/plan.js';
export type { Prediction, PredictOptions } from './api/predict.js';
export type { RankInput } from './api/ranks.js';
export { type RunRecord, readMetrics, readRun } from './api/runFolder.js';
export { listRuns, type RunSummary } from './api/runs.js';
export type { SampleEvent } from './api/samples.js';
export { labelsOf, type TaskInput } from './api/task.js';
export type { AsLora } from './api/toLora.js';
export type { EvaluateOptions, Evaluation } from './api/training.js';
export { UserError } from './base/errors.js';
export type { F32Tensor, HostTensor, StoredDType } from './base/tensor.js';
export type { WorkOptions, WorkProgress } from './base/work.js';
export type { ChatMessage } from './formats/chat.js';
export type { GgufToHfOptions } from './formats/gguf/tohf.js';
export type { DownloadProgress } from './formats/hub/progress.js';
export type { QuantFormat } from './formats/quant/index.js';
export type { Task, TaskKind } from './formats/task.js';
export type { OnnxDType } from './formats/transformersJs.js';
export type { Device } from './graph/op.js';
export type { Adapter } from './methods/adapter.js';
export type { CombineInput } from './methods/combine.js';
export type { ExportedModel, OnnxOptions } from './methods/exportOnnx.js';
export type { MethodConfig, MethodName } from './methods/index.js';
export type { MergeOptions } from './methods/merge.js';
export { ggufToHf } from './models/gguf/file.js';
export type { ModelConfig, Site } from './models/model.js';
export type { FinishReason, GenerateInput, GenerateOptions } from './serve/generate.js';
export type { EvaPlan } from './train/eva.js';
export type { TrainEvent } from './train/loop.js';
export type { LrEvent, LrFound, LrRangeInput } from './train/lrFinder.js';
export type { TrainInput, TrainOptions } from './train/options.js';
export type { RankChoice, RankPlan } from './train/ranks.js';
