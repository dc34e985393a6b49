/** What the figures mean, in words: docs/analysis.md has each rule with its reason. */
import type { ChangeFigures, ModuleAnalysis, Place } from './module.js';
import { medianOf, sharesOf } from './report.js';
import { holding } from './spectrum.js';
import { expectedSimilarity } from './subspace.js';

/** A sentence, and which rule it comes from. */
export interface Finding {
  kind:
    | 'zero'
    | 'rankToSpare'
    | 'rankTooSmall'
    | 'sharedDirections'
    | 'noSharedDirections'
    | 'intruders'
    | 'concentrated';
  message: string;
}

/** A layer as far as the verdict needs it; what is absent is not judged. */
export type Judged = Place & {
  change: Pick<ChangeFigures, 'kind' | 'rank' | 'values' | 'norm'>;
} & Partial<Pick<ModuleAnalysis, 'in' | 'out' | 'similarity' | 'intruders'>>;

/** Of ‖ΔW‖²: what an adapter has to keep so that its loss stays, within 2% in the runs of docs/analysis.md. 99% are not enough. */
const KEPT = 0.999;
/** Of the rank: where no more than this part of the directions holds that, the rest is to spare. */
const TO_SPARE = 0.5;
/** σ_r/σ₁ from which on a spectrum has not fallen at its end. */
const NOT_FALLEN = 0.2;
/** φ(1, 1) from which on the first directions count as one: what section 7.2 of the paper found between ranks and seeds. */
const SHARED = 0.5;
/** φ of all directions up to so many times that of random ones is no more than chance. */
const CHANCE = 2;
/** Half of the weight is worth a sentence where it is in no more than this part of the layers. */
const FEW = 1 / 3;

/** Judges an adapter by its layers. */
export function verdictOf(modules: readonly Judged[]): Finding[] {
  if (modules.every(({ change }) => change.norm === 0)) {
    return [{ kind: 'zero', message: 'the change is zero everywhere: nothing was learned' }];
  }
  return [
    rankFinding(modules),
    sharedFinding(modules),
    intruderFinding(modules),
    ...weightFindings(modules),
  ].filter((finding) => finding !== undefined);
}

/** Of one direction alone nothing can be told, and a change that fills its matrix has no r. */
function rankFinding(modules: readonly Judged[]): Finding | undefined {
  const judged = modules.flatMap(({ change }) =>
    change.kind === 'product' && change.rank > 1 && change.norm > 0 ? [change] : [],
  );
  if (judged.length === 0) return undefined;
  const keeping = judged.map(({ values, norm }) => holding(KEPT, values, norm)!);
  const rank = medianOf(judged.map((change) => change.rank))!;
  if (medianOf(judged.map((change, i) => keeping[i] / change.rank))! <= TO_SPARE) {
    const largest = Math.max(...judged.map((change) => change.rank));
    return {
      kind: 'rankToSpare',
      message:
        `the adapter can be smaller: of ${rank} directions, ${Math.ceil(medianOf(keeping)!)} hold 99.9% of the median module's change ` +
        `(lowrank resize --r ${largest} --energy 0.999); that training with a smaller r comes as far does not follow`,
    };
  }
  const last = medianOf(judged.map(({ values, rank: r }) => (values[r - 1] ?? 0) / values[0]))!;
  if (last < NOT_FALLEN) return undefined;
  return {
    kind: 'rankTooSmall',
    message:
      `the rank is too small for what there is to learn: in the median module the last of ${rank} directions is still ${percent(last)} of the first; ` +
      'try a larger r',
  };
}

/** By B, which starts at zero: what it has, it learned. A keeps much of its random start. */
function sharedFinding(modules: readonly Judged[]): Finding | undefined {
  const sides = modules.flatMap(({ similarity, out }) =>
    similarity?.with === 'other' && similarity.b.phi.length > 0 ? [{ phi: similarity.b.phi, out: out! }] : [],
  );
  if (sides.length === 0) return undefined;
  const first = medianOf(sides.map(({ phi }) => phi[0][0]))!;
  if (first > SHARED) {
    return {
      kind: 'sharedDirections',
      message: `the two share the direction that matters most: between their first output directions phi is ${figure(first)} in the median module`,
    };
  }
  const beyondChance = medianOf(
    sides.map(({ phi, out }) => phi.at(-1)!.at(-1)! / expectedSimilarity(phi.length, phi[0].length, out)),
  )!;
  if (beyondChance > CHANCE) return undefined;
  return {
    kind: 'noSharedDirections',
    message: `the two have hardly more in common than chance: phi of all their output directions is ${figure(beyondChance)} times that of random ones in the median module`,
  };
}

function intruderFinding(modules: readonly Judged[]): Finding | undefined {
  const having = modules.filter(({ intruders }) => (intruders?.count ?? 0) > 0);
  if (having.length === 0) return undefined;
  const count = having.reduce((sum, { intruders }) => sum + intruders!.count, 0);
  return {
    kind: 'intruders',
    message:
      `${count} of the leading directions, in ${having.length} of ${modules.length} modules, ${count === 1 ? 'is an intruder' : 'are intruders'}: ` +
      'the base has nothing like them, which goes with forgetting; a lower learning rate or a higher rank has fewer',
  };
}

/** The fewest roles that hold half of it, and the fewest layers where these are few. */
function weightFindings(modules: readonly Judged[]): Finding[] {
  const { roles, layers } = sharesOf(modules);
  const told: string[] = [];
  if (roles.length > 1) {
    const [some, held] = half(roles);
    told.push(`${percent(held)} of the change is in ${some.map(({ role }) => role).join(' and ')}`);
  }
  const [some, held] = half([...layers].sort((a, b) => b.share - a.share));
  if (layers.length > 3 && some.length <= FEW * layers.length) {
    const names = some.map(({ layer }) => layer).sort((a, b) => a - b);
    told.push(
      `${percent(held)} of the change is in ${names.length === 1 ? 'layer' : 'layers'} ${names.join(', ')}`,
    );
  }
  return told.map((message) => ({ kind: 'concentrated', message }));
}

function half<T extends { share: number }>(sorted: readonly T[]): [T[], number] {
  const some: T[] = [];
  let held = 0;
  for (const one of sorted) {
    if (held >= 0.5) break;
    some.push(one);
    held += one.share;
  }
  return [some, held];
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

function figure(x: number): string {
  return x.toPrecision(2);
}
