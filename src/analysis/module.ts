/** All analyses of one layer's change. */
import { firstRows } from '../base/linalg/matrix.js';
import { leading } from '../base/linalg/svd.js';
import { INTRUDER_RULE, type IntruderRule, type Intruders, intrudersOf } from './intruders.js';
import { type Dense, leadingSvd, operatorOf, type Update } from './operator.js';
import { type Relation, relationOf } from './relation.js';
import { type EffectiveRanks, effectiveRanks, type Spectrum, spectrumOf } from './spectrum.js';
import {
  type Directions,
  directionsOf,
  grassmannDistance,
  mostDistance,
  randomDirections,
  similarity,
} from './subspace.js';

/** A layer by its name: model.layers.3.self_attn.q_proj is in layer 3, and its role is q_proj. */
export interface Place {
  name: string;
  /** Absent for one that is in no numbered layer, as an embedding. */
  layer?: number;
  role: string;
}

/** The figures of a change by itself. */
export interface ChangeFigures extends EffectiveRanks {
  /** Whether it is a product of factors, or one that fills its matrix. */
  kind: Update['kind'];
  /** Directions that it can have. */
  rank: number;
  /** Singular values, largest first; the leading ones alone where `complete` is false. */
  values: number[];
  complete: boolean;
  /** ‖ΔW‖_F */
  norm: number;
}

/** φ between two changes of a layer, or of one with random matrices of the same shape. */
export interface Similarity {
  with: 'other' | 'random';
  /** From A's right-singular vectors, and from B's left ones. */
  a: SideSimilarity;
  b: SideSimilarity;
}

export interface SideSimilarity {
  /** φ(i, j) at [i − 1][j − 1]; empty where one of the two has no direction, because it is zero. */
  phi: number[][];
  /** Grassmann distance (geodesic) of the whole spaces that the table is of, and the most that it could be. */
  distance: number;
  most: number;
}

export interface ModuleAnalysis extends Place {
  out: number;
  in: number;
  change: ChangeFigures & {
    /** ‖ΔW‖_F / ‖W‖_F */
    share: number;
  };
  /** Of the other adapter, where there is one. */
  other?: ChangeFigures;
  similarity: Similarity;
  relation: Relation;
  intruders: Intruders;
}

export interface ModuleOptions {
  /** r of the relation to W, and how many directions are compared at most; default: the change's rank, 64 at most. */
  directions?: number;
  seed?: number;
  rule?: IntruderRule;
}

/** More are seldom looked at, and cost time. */
const MOST_DIRECTIONS = 64;
/** Of a change that fills its matrix, unless told. */
const DENSE_DIRECTIONS = 8;

/** Tells a layer's number and role by its name. */
export function placeOf(name: string): Place {
  const layer = /\.(\d+)\./.exec(name)?.[1];
  return {
    name,
    ...(layer !== undefined && { layer: Number(layer) }),
    role: name.slice(name.lastIndexOf('.') + 1),
  };
}

/** Analyses a change of W, and sets it beside another of the same matrix, or beside random ones. */
export async function analyzeModule(
  name: string,
  w: Dense,
  update: Update,
  other: Update | undefined,
  { directions, seed = 0, rule = INTRUDER_RULE }: ModuleOptions = {},
): Promise<ModuleAnalysis> {
  const count = Math.min(directions ?? defaultDirections(update), w.rows, w.columns);
  const spectrum = await spectrumOf(update, count, seed);
  const theirs = other && (await spectrumOf(other, directions ?? defaultDirections(other), seed));
  const most = Math.max(count, Math.min(rule.k, w.rows, w.columns));
  const weight = await leadingSvd(w, most, { seed });
  return {
    ...placeOf(name),
    out: w.rows,
    in: w.columns,
    change: { ...figuresOf(update, spectrum), share: spectrum.norm / w.norm },
    ...(other && theirs && { other: figuresOf(other, theirs) }),
    similarity:
      other && theirs
        ? compare('other', directionsOf(update, spectrum), directionsOf(other, theirs), directions)
        : besideRandom(directionsOf(update, spectrum), directions, seed, name),
    relation: await relationOf(w, {
      change: spectrum.top,
      weight: leading(weight, Math.min(count, weight.s.length)),
      weightNorm: w.norm,
      changeNorm: spectrum.norm,
      seed,
      name,
    }),
    intruders: await intrudersOf(w, operatorOf(update), weight, { rule, seed }),
  };
}

function defaultDirections(update: Update): number {
  if (update.kind === 'dense') return DENSE_DIRECTIONS;
  return Math.min(MOST_DIRECTIONS, update.a.rows);
}

/** The figures of a change whose spectrum is known. */
export function figuresOf({ kind }: Pick<Update, 'kind'>, spectrum: Spectrum): ChangeFigures {
  const { values, complete, norm, rank } = spectrum;
  return { kind, rank, values: [...values], complete, norm, ...effectiveRanks(spectrum) };
}

type Sides = Record<'a' | 'b', Directions>;

function compare(
  what: Similarity['with'],
  first: Sides,
  second: Sides,
  directions = MOST_DIRECTIONS,
): Similarity {
  const side = (name: 'a' | 'b'): SideSimilarity => {
    const [one, two] = [first[name], second[name]].map((rows) =>
      firstRows(rows, Math.min(directions, rows.rows)),
    );
    const distance = grassmannDistance(one, two);
    return { phi: similarity(one, two), distance, most: mostDistance(one, two) };
  };
  return { with: what, a: side('a'), b: side('b') };
}

/** The control: as many random directions. */
function besideRandom(own: Sides, directions: number | undefined, seed: number, name: string): Similarity {
  const like = ({ rows, columns }: Directions, side: string) =>
    randomDirections(rows, columns, seed, `${name} like ${side}`);
  return compare('random', own, { a: like(own.a, 'A'), b: like(own.b, 'B') }, directions);
}
