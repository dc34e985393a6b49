/** What each method trains on a model, by its shape alone, with the formula beside the number. */
import { UserError } from '../../base/errors.js';
import { snakeCase } from '../../base/names.js';
import { leavesModel, savedCount, trainableCount } from '../../methods/counts.js';
import { trainablesOf } from '../../methods/head.js';
import { type MethodName, methodNamed, methods } from '../../methods/index.js';
import type { Method, Trainable } from '../../methods/method.js';
import { checkRank } from '../../models/rankLimit.js';
import { type Outline, parameterCount } from '../../models/shape.js';

/** A number with the formula that it came out of. */
export interface Figure {
  value: number;
  /** In words and letters: "r·(in + out) a target". */
  formula: string;
  /** The same with numbers: "192·(4·12288 + 12288·4)". */
  numbers: string;
}

/** What a method trains on a model, and what it leaves in a file. */
export interface MethodCount {
  method: MethodName;
  trainable: Figure;
  /** Of all of the model's parameters. */
  share: number;
  /** Numbers in the file that is saved; those that do not train may be among them. */
  saved: number;
  /** How many layers it adds tensors to. */
  sites: number;
  /** Whether the model's own tensors train, and what is saved is a whole model. */
  whole: boolean;
}

/** A method that does not fit the model or the options, and why. */
export interface RefusedMethod {
  method: MethodName;
  refused: string;
}

/**
 * Counts what a method trains: its own `select` says which tensors, and needs no weight for it. A method takes of
 * `options`, in PEFT's names or camelCase, what is its own; the rest has its defaults. Throws UserError where the
 * options do not fit the model, as a rank beyond a matrix.
 */
export function countMethod(
  model: Outline,
  name: MethodName,
  options: Readonly<Record<string, unknown>> = {},
): MethodCount {
  const { method, config, trainables } = selectMethod(model, name, options);
  const trained = trainables.filter((t) => t.requiresGrad !== false);
  const value = trainableCount(trainables);
  return {
    method: name,
    trainable: { value, formula: method.card.parameters, numbers: sumOf(trained) },
    share: value / parameterCount(model),
    saved: savedCount(method, config, trainables, model),
    sites: new Set(trainables.flatMap((t) => t.at?.site ?? [])).size,
    whole: leavesModel(method),
  };
}

/** The same for every method, those that do not fit with the reason. */
export function countMethods(
  model: Outline,
  options: Readonly<Record<string, unknown>> = {},
): (MethodCount | RefusedMethod)[] {
  return (Object.keys(methods) as MethodName[]).map((name) => {
    try {
      return countMethod(model, name, options);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      return { method: name, refused: error.message };
    }
  });
}

/** A method with its configuration and tensors on a model, as countMethod takes them. */
export function selectMethod(
  model: Outline,
  name: MethodName,
  options: Readonly<Record<string, unknown>>,
): { method: Method<unknown>; config: unknown; trainables: Trainable[] } {
  const method = methodNamed(name);
  const own = Object.entries(options)
    .map(([key, value]) => [snakeCase(key), value] as const)
    .filter(([key, value]) => value !== undefined && Object.hasOwn(method.options.shape, key));
  const config = method.parse(`${name} configuration`, Object.fromEntries(own));
  const trainables = trainablesOf(method, config, model);
  // PEFT takes a larger rank; who plans with one has mistaken the model.
  const sites = new Map(model.sites.map((site) => [site.name, site]));
  for (const { at, shape } of trainables) {
    if (at?.part === 'lora_A') checkRank('r', shape[0], sites.get(at.site)!);
  }
  return { method, config, trainables };
}

/** The sizes of tensors as a sum, equal sites together: "24·(8·1024 + 1024·8)". */
function sumOf(trainables: readonly Trainable[]): string {
  const sites = new Map<string, string[]>();
  for (const { name, at, shape } of trainables) {
    const key = at?.site ?? name;
    sites.set(key, [...(sites.get(key) ?? []), shape.join('·')]);
  }
  const counts = new Map<string, number>();
  for (const products of sites.values()) {
    const text = products.length > 1 ? `(${products.join(' + ')})` : products[0];
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts].map(([text, n]) => (n === 1 ? text : `${n}·${text}`)).join(' + ');
}

/** Baselines of the LoRA paper that are counted by its own formulas (arXiv:2106.09685, section 5.1). */
export type PaperBaseline =
  | { kind: 'prefix-embedding' | 'prefix-layer'; prefixTokens: number; infixTokens: number }
  | { kind: 'adapter-h' | 'adapter-l'; r: number; layerNorms: boolean };

/**
 * Parameters of a baseline as the paper counts them. Its prefix-layer tuning has one vector a layer and token, where
 * method "prefix" trains a key and a value; its adapters are counted with the LayerNorms that train with them, or without.
 */
export function paperBaseline(
  { layers: l, hiddenSize: d }: { layers: number; hiddenSize: number },
  baseline: PaperBaseline,
): Figure {
  if ('prefixTokens' in baseline) {
    const { prefixTokens: prefix, infixTokens: infix } = baseline;
    const embedding = baseline.kind === 'prefix-embedding';
    return {
      value: (embedding ? 1 : l) * d * (prefix + infix),
      formula: embedding ? 'd·(l_p + l_i)' : 'L·d·(l_p + l_i)',
      numbers: `${embedding ? '' : `${l}·`}${d}·(${prefix} + ${infix})`,
    };
  }
  const { r, layerNorms } = baseline;
  // AdapterL has an adapter and a LayerNorm a layer, AdapterH two adapters and, where they train, two LayerNorms.
  const perLayer = baseline.kind === 'adapter-h' ? 2 : 1;
  const norms = layerNorms ? perLayer * l : 0;
  return {
    value: perLayer * l * (2 * d * r + r + d) + 2 * norms * d,
    formula: `L̂_Adpt·(2·d·r + r + d)${layerNorms ? ' + 2·L̂_LN·d' : ''}`,
    numbers: `${perLayer * l}·(2·${d}·${r} + ${r} + ${d})${layerNorms ? ` + 2·${norms}·${d}` : ''}`,
  };
}

/** A whole matrix against its low-rank update: d·k, r·(d + k), and how many times fewer. */
export function matrixCounts(d: number, k: number, r: number): { full: Figure; lora: Figure; times: number } {
  checkRank('r', r, { name: 'the matrix', in: k, out: d });
  const [full, lora] = [d * k, r * (d + k)];
  return {
    full: { value: full, formula: 'd·k', numbers: `${d}·${k}` },
    lora: { value: lora, formula: 'r·(d + k)', numbers: `${r}·(${d} + ${k})` },
    times: full / lora,
  };
}

/** Bytes of so many numbers of an element type. */
export const elementBytes = { float32: 4, float16: 2, bfloat16: 2 } as const;

/** Numbers in all of a model's tensors, those of equal shape together. */
export function modelCount(model: Outline): Figure {
  const own = [...model.parameters].map(([name, shape]): Trainable => ({ name, shape, init: null }));
  return { value: parameterCount(model), formula: 'the sizes of all tensors', numbers: sumOf(own) };
}
