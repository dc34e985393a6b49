import { analyze } from './analyze.js';
import { combine } from './combine.js';
import type { CommandSpec } from './command.js';
import { convert } from './convert.js';
import { demo } from './demo.js';
import { evaluate } from './eval.js';
import { explainCommand } from './explain.js';
import { exportCommand } from './export.js';
import { extract, resize } from './extract.js';
import { generate } from './generate.js';
import { inspect } from './inspect.js';
import { lab } from './lab.js';
import { merge } from './merge.js';
import { methods } from './methods.js';
import { plan } from './plan.js';
import { predict } from './predict.js';
import { runs } from './runs.js';
import { train } from './train.js';

/** Every command, in the order of the help. */
export const commands: readonly CommandSpec[] = [
  demo,
  train,
  generate,
  predict,
  evaluate,
  merge,
  exportCommand,
  combine,
  inspect,
  analyze,
  convert,
  extract,
  resize,
  methods,
  plan,
  runs,
  lab,
  explainCommand,
];
