import { camelCase } from '../base/names.js';

/**
 * Keys of other tools' configurations, for who comes with one: transformers' TrainingArguments, PEFT, TRL, LLaMA-Factory,
 * axolotl, Unsloth, mlx-lm. Their names are told in this toolkit's, none is taken in its place: the same key may mean
 * another thing (a batch size is one device's there).
 */

/** What each is here: an option, or an option and the value that says the same. */
const OPTIONS: Readonly<Record<string, string>> = {
  // TRL, LLaMA-Factory, axolotl on preferences
  pref_beta: 'beta',
  pref_loss: 'lossType',
  rl: 'objective',
  rl_beta: 'beta',
  max_completion_length: 'maxLength',
  // transformers' TrainingArguments
  num_train_epochs: 'epochs',
  per_device_train_batch_size: 'batchSize',
  per_gpu_train_batch_size: 'batchSize',
  train_batch_size: 'batchSize',
  lr_scheduler_type: 'schedule',
  output_dir: 'output',
  data_seed: 'seed',
  eval_strategy: 'evalSteps',
  evaluation_strategy: 'evalSteps',
  save_strategy: 'saveSteps',
  report_to: 'tensorboard: true',
  use_cpu: 'device: cpu',
  no_cuda: 'device: cpu',
  // PEFT
  peft_type: 'method',
  base_model_name_or_path: 'model',
  // TRL
  model_name: 'model',
  dataset_name: 'data',
  dataset_path: 'data',
  max_seq_length: 'maxLength',
  max_seq_len: 'maxLength',
  completion_only_loss: 'lossOn: completion',
  assistant_only_loss: 'lossOn: completion',
  lora_r: 'r',
  lora_target_modules: 'targetModules',
  lora_modules_to_save: 'modulesToSave',
  // LLaMA-Factory
  model_name_or_path: 'model',
  adapter_name_or_path: 'adapter',
  dataset: 'data',
  eval_dataset: 'evalData',
  val_size: 'evalSplit',
  cutoff_len: 'maxLength',
  finetuning_type: 'method',
  lora_rank: 'r',
  lora_target: 'targetModules',
  additional_target: 'modulesToSave',
  quantization_bit: 'quantize',
  train_on_prompt: 'lossOn: all',
  neat_packing: 'packing',
  use_dora: 'method: dora',
  pissa_init: 'method: pissa',
  pissa_iter: 'pissaNiter',
  // axolotl
  base_model: 'model',
  datasets: 'data',
  test_datasets: 'evalData',
  lora_model_dir: 'adapter',
  val_set_size: 'evalSplit',
  sequence_len: 'maxLength',
  num_epochs: 'epochs',
  micro_batch_size: 'batchSize',
  lr: 'learningRate',
  lr_scheduler: 'schedule',
  lora_target_linear: 'targetModules: all-linear',
  peft_use_dora: 'method: dora',
  peft_use_rslora: 'useRslora',
  peft_init_lora_weights: 'initLoraWeights',
  load_in_4bit: 'quantize: nf4',
  load_in_8bit: 'quantize: int8',
  sample_packing: 'packing',
  train_on_inputs: 'lossOn: all',
  use_tensorboard: 'tensorboard: true',
  // Unsloth
  random_state: 'seed',
  use_gradient_checkpointing: 'gradientCheckpointing',
  // mlx-lm
  iters: 'maxSteps',
  fine_tune_type: 'method',
  num_layers: 'layersToTransform',
  steps_per_eval: 'evalSteps',
  save_every: 'saveSteps',
  adapter_path: 'output',
  resume_adapter_file: 'adapter',
  grad_checkpoint: 'gradientCheckpointing',
  grad_accumulation_steps: 'gradientAccumulationSteps',
  mask_prompt: 'lossOn: completion',
  lr_schedule: 'schedule',
};

/** What is no option here, by what there is instead. */
const REASONS: Readonly<Record<string, readonly string[]>> = {
  'everything is computed in float32': [
    ...['bf16', 'fp16', 'tf32', 'float16', 'bfloat16', 'pure_bf16', 'bf16_full_eval', 'fp16_full_eval'],
    ...['torch_dtype', 'dtype', 'fp16_opt_level', 'half_precision_backend'],
  ],
  'the optimizer is AdamW': ['optim', 'optimizer', 'optim_args', 'optimizer_config'],
  'the best evaluation is kept anyway': [
    'load_best_model_at_end',
    'metric_for_best_model',
    'greater_is_better',
  ],
  'that is the flag --resume': ['resume_from_checkpoint', 'auto_resume_from_checkpoints'],
  'that is the flag --overwrite': ['overwrite_output_dir'],
  'its parts are keys of their own: r, lora_alpha, lora_dropout, target_modules': [
    ...['lora_parameters', 'lora_config', 'peft_config'],
  ],
  'the model brings its chat template': ['template'],
  'the reference is what the model was before, computed once': [
    ...['ref_model', 'precompute_ref_log_probs', 'reference_free', 'force_use_ref_model', 'ref_adapter_name'],
  ],
  'nothing here corresponds': [
    ...[
      'stage',
      'do_train',
      'do_eval',
      'train',
      'test',
      'use_peft',
      'task_type',
      'lora_task_type',
      'inference_mode',
    ],
    ...[
      'logging_steps',
      'logging_strategy',
      'logging_dir',
      'logging_first_step',
      'steps_per_report',
      'plot_loss',
    ],
    ...[
      'run_name',
      'wandb_project',
      'wandb_entity',
      'wandb_watch',
      'wandb_name',
      'wandb_log_model',
      'wandb_run_id',
    ],
    ...[
      'per_device_eval_batch_size',
      'eval_batch_size',
      'val_batches',
      'eval_accumulation_steps',
      'max_samples',
    ],
    ...['dataloader_num_workers', 'dataloader_pin_memory', 'dataset_num_proc', 'preprocessing_num_workers'],
    ...[
      'overwrite_cache',
      'dataset_dir',
      'dataset_text_field',
      'dataset_prepared_path',
      'remove_unused_columns',
    ],
    ...[
      'push_to_hub',
      'hub_model_id',
      'hub_strategy',
      'trust_remote_code',
      'attn_implementation',
      'flash_attn',
    ],
    ...[
      'flash_attention',
      'xformers_attention',
      'sdp_attention',
      'deepspeed',
      'fsdp',
      'fsdp_config',
      'ddp_timeout',
    ],
    ...[
      'ddp_find_unused_parameters',
      'local_rank',
      'torch_compile',
      'gradient_checkpointing_kwargs',
      'tokenizer_type',
    ],
    ...[
      'model_type',
      'is_llama_derived_model',
      'special_tokens',
      'strict',
      'pad_to_sequence_len',
      'evals_per_epoch',
    ],
    ...[
      'saves_per_epoch',
      'save_only_model',
      'save_safetensors',
      'label_smoothing_factor',
      'neftune_noise_alpha',
    ],
  ],
};

const options = new Map(
  Object.entries(OPTIONS).map(([key, text]) => {
    const [name, value] = text.split(': ');
    return [camelCase(key), { name, ...(value !== undefined && { value }) }] as const;
  }),
);
const reasons = new Map(
  Object.entries(REASONS).flatMap(([reason, keys]) => keys.map((key) => [camelCase(key), reason] as const)),
);

/** The option that another tool's key (camelCase) is here, with a value where only that says the same. */
export function optionOfForeign(key: string): { name: string; value?: string } | undefined {
  return options.get(key);
}

/** Why another tool's key (camelCase) is no option here. */
export function reasonAgainstForeign(key: string): string | undefined {
  return reasons.get(key);
}

/** All keys that are known to be of other tools, in camelCase. */
export const foreignKeys: readonly string[] = [...options.keys(), ...reasons.keys()];
