/**
 * LoRA of stacked experts, as PEFT 0.21.2 has it with transformers 5: there the matrices of a layer's experts are two tensors,
 * which `target_parameters` name, and an adapter has one A [experts·r, in] and one B [out, r·experts] for all. It is read as
 * LoRA of each matrix of each expert.
 */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from './io/json.js';
import { names } from './peftKeys.js';
import { adapterKey } from './peftNames.js';
import { patternValue } from './peftPatterns.js';
import { readFinite, type TensorInfo } from './safetensors.js';

/** An adapter's tensor, row-major. */
interface Matrix {
  shape: readonly number[];
  data: Float32Array;
}

/** The stacked tensors, with the matrices of an expert that lie in each, by their names now and in Mixtral's checkpoints. */
const STACKS = {
  gate_up_proj: [
    ['gate_proj', 'w1'],
    ['up_proj', 'w3'],
  ],
  down_proj: [['down_proj', 'w2']],
} as const;
type Stack = keyof typeof STACKS;
const isStack = (name: string): name is Stack => Object.hasOwn(STACKS, name);
const lastOf = (name: string) => name.slice(name.lastIndexOf('.') + 1);

const numbers = z.record(z.string(), z.number()).nullish();
const schema = z.looseObject({
  target_parameters: z.array(z.string()).nullish(),
  target_modules: names.optional(),
  layers_to_transform: z.unknown().optional(),
  r: z.int().positive().default(8),
  lora_alpha: z.number().default(8),
  rank_pattern: numbers,
  alpha_pattern: numbers,
});

/** What stacked experts are read as. */
export interface StackedExperts {
  /** The configuration of LoRA of single experts, as JSON has it. */
  config: unknown;
  /** Whether a tensor of the file is of all experts. */
  isStacked(name: string): boolean;
  /** Of the tensors that are: those of each expert by adapterKey, and how many experts there are. Throws UserError on other shapes. */
  split(
    path: string,
    infos: readonly TensorInfo[],
  ): Promise<{ tensors: Map<string, Matrix>; experts: number }>;
}

/**
 * How the adapter of a configuration has experts; undefined where it has no `target_parameters`. Throws UserError, prefixed
 * with `place`, for parameters that are neither stacked experts nor the matrix of a layer.
 */
export function stackedExperts(place: string, raw: unknown): StackedExperts | undefined {
  const { target_parameters: given } = checkJson(
    place,
    raw,
    z.looseObject({ target_parameters: z.unknown().optional() }),
  );
  if (given === undefined || given === null) return undefined;
  const c = checkJson(place, raw, schema);
  const { target_parameters: parameters, target_modules: modules } = c;
  if (!parameters?.length) return undefined;
  const other = parameters.find((name) => !isStack(lastOf(name)) && lastOf(name) !== 'weight');
  if (other !== undefined) {
    throw new UserError(
      `${place}: target_parameters ${JSON.stringify(other)} is not implemented, expected gate_up_proj and down_proj of experts, or the weight of a layer`,
    );
  }
  if (c.layers_to_transform !== null && c.layers_to_transform !== undefined)
    throw new UserError(`${place}: layers_to_transform beside target_parameters is not implemented`);
  const stacks = parameters.map(lastOf).filter(isStack);
  const matrices = stacks.flatMap((stack) => STACKS[stack].map(([name]) => name));
  const layers = parameters.filter((name) => lastOf(name) === 'weight').map((name) => name.slice(0, -7));
  const sizesIn = (module: string, stack: Stack): Sizes => ({
    r: patternValue('rank_pattern', c.rank_pattern ?? {}, `${module}.${stack}`) ?? c.r,
    alpha: patternValue('alpha_pattern', c.alpha_pattern ?? {}, `${module}.${stack}`) ?? c.lora_alpha,
  });
  const patterns = (size: keyof Sizes) =>
    Object.fromEntries(
      stacks.map((stack) => [
        `experts\\.\\d+\\.(${STACKS[stack].flat().join('|')})`,
        sizesIn(ANY_LAYER, stack)[size],
      ]),
    );
  return {
    config: {
      ...c,
      target_parameters: null,
      target_modules:
        typeof modules === 'string'
          ? `(${modules})|.*\\.(${[...matrices, ...layers.map(lastOf)].join('|')})`
          : [...(modules ?? []), ...matrices, ...layers],
      rank_pattern: { ...patterns('r'), ...c.rank_pattern },
      alpha_pattern: { ...patterns('alpha'), ...c.alpha_pattern },
    },
    isStacked: (name) => STACKED.test(name),
    async split(path, infos) {
      const tensors = new Map<string, Matrix>();
      const left = new Set(infos);
      let experts: number | undefined;
      for (const [module, places] of modulesOf(infos)) {
        const named = stacks.filter((stack) => parameters.some((name) => isEnd(`${module}.${stack}`, name)));
        for (const stack of named) {
          // PEFT puts one around the other: what the model has first is inside.
          const isInside = stack === 'gate_up_proj' && named.includes('down_proj');
          const { a, b } = places[isInside ? 'base_layer.' : ''] ?? {};
          const at = `${module}.${stack}`;
          if (!a || !b) throw new UserError(`${path}: ${at}, a target parameter, lacks its lora_A or lora_B`);
          for (const info of [a, b]) left.delete(info);
          const { r, alpha } = sizesIn(module, stack);
          const first = sizesIn(ANY_LAYER, stack);
          if (r !== first.r || alpha !== first.alpha)
            throw new UserError(
              `${path}: ${at} has a rank or alpha of its own, which is not implemented for experts`,
            );
          const found = a.shape[0] / r;
          experts ??= found;
          const out = b.shape[0] / STACKS[stack].length;
          const fits = a.shape.length === 2 && b.shape.length === 2 && a.shape[0] === b.shape[1];
          if (!fits || ![found, out].every(Number.isInteger) || found !== experts) {
            throw new UserError(
              `${path}: lora_A [${a.shape.join(', ')}] and lora_B [${b.shape.join(', ')}] of ${at} are not of experts of rank ${r}`,
            );
          }
          const [stackedA, stackedB] = [await readFinite(a), await readFinite(b)];
          for (let e = 0; e < experts; e++) {
            const shape = [r, a.shape[1]];
            const factor = () => stackedA.slice(e * r * shape[1], (e + 1) * r * shape[1]);
            for (const [i, [matrix]] of STACKS[stack].entries()) {
              const site = `${module}.${e}.${matrix}`;
              const data = rowsOfExpert(stackedB, { from: i * out, rows: out, r, e, experts });
              tensors.set(adapterKey(site, 'lora_A'), { shape, data: factor() });
              tensors.set(adapterKey(site, 'lora_B'), { shape: [out, r], data });
            }
          }
        }
      }
      const [unnamed] = left;
      if (unnamed)
        throw new UserError(`${path}: target_parameters does not name what "${unnamed.name}" is of`);
      return { tensors, experts: experts ?? 0 };
    },
  };
}

interface Sizes {
  r: number;
  alpha: number;
}

/** A module of experts: those of all layers have one rank and one alpha. */
const ANY_LAYER = 'model.layers.0.mlp.experts';

/** B of an expert: rows `from` on of the stacked [out, r·experts], whose columns are by rank, and within by expert. */
function rowsOfExpert(
  stacked: Float32Array,
  { from, rows, r, e, experts }: { from: number; rows: number; r: number; e: number; experts: number },
): Float32Array {
  const width = r * experts;
  return Float32Array.from({ length: rows * r }, (_, i) => {
    const [row, k] = [from + Math.floor(i / r), i % r];
    return stacked[row * width + k * experts + e];
  });
}

/** A, or B, of all experts, which of them, and what they are in. */
const STACKED = /^base_model\.model\.(.*\.experts)\.(base_layer\.)?lora_([AB])\.weight$/;

type Place = '' | 'base_layer.';
type Pair = { a?: TensorInfo; b?: TensorInfo };

function modulesOf(infos: readonly TensorInfo[]): Map<string, Partial<Record<Place, Pair>>> {
  const found = new Map<string, Partial<Record<Place, Pair>>>();
  for (const info of infos) {
    const [, module, place = '', letter] = STACKED.exec(info.name)!;
    const places = found.get(module) ?? {};
    places[place as Place] = { ...places[place as Place], [letter === 'A' ? 'a' : 'b']: info };
    found.set(module, places);
  }
  return found;
}

const isEnd = (name: string, end: string) => name === end || name.endsWith(`.${end}`);
