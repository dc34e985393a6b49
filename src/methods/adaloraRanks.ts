/** How AdaLoRA finds out what is important, and what is left of a budget (sections 3.2 and 3.3 of arXiv:2303.10512). */
import { type F32Tensor, f32 } from '../base/tensor.js';
import { splitAdapterKey } from '../formats/peftNames.js';
import type { MethodState } from './method.js';

interface Schedule {
  targetR: number;
  tinit: number;
  deltaT: number;
  beta1: number;
  beta2: number;
}

type Values = ReadonlyMap<string, F32Tensor>;

/** Running averages of each element's sensitivity |w·g| and of how uncertain that is. */
export function updateImportance(
  { beta1, beta2 }: Schedule,
  values: Values,
  grads: Values,
  clip: number,
  state: MethodState,
): void {
  for (const [name, { dims, data: g }] of grads) {
    const w = values.get(name)!.data;
    const [sensitivity, uncertainty] = ['sensitivity', 'uncertainty'].map((what) => {
      const average = state.tensors.get(`${name}.${what}`) ?? f32(new Float32Array(g.length), dims);
      state.tensors.set(`${name}.${what}`, average);
      return average.data;
    });
    for (let i = 0; i < g.length; i++) {
      const now = Math.abs(w[i] * g[i] * clip);
      sensitivity[i] = beta1 * sensitivity[i] + (1 - beta1) * now;
      uncertainty[i] = beta2 * uncertainty[i] + (1 - beta2) * Math.abs(now - sensitivity[i]);
    }
  }
}

/** How many ranks all sites may have together at `step`, out of `first` down to `last` at step `end`. */
export function budgetAt(
  { tinit }: Pick<Schedule, 'tinit'>,
  step: number,
  end: number,
  first: number,
  last: number,
) {
  if (step <= tinit) return first;
  if (step >= end) return last;
  return Math.floor((first - last) * (1 - (step - tinit) / (end - tinit)) ** 3 + last);
}

/**
 * Prunes the least important triplets where it is time: sets their λ to zero, whatever came back since the last time.
 * Returns what is left by site; undefined where it is not time.
 */
export function allocate(
  c: Schedule,
  { step, end }: { step: number; end: number },
  values: Values,
  state: MethodState,
): Record<string, boolean[]> | undefined {
  if (step !== end && (step <= c.tinit || step % c.deltaT !== 0)) return undefined;
  const scores = new Map<string, Float64Array>();
  for (const [name, { dims }] of values) {
    const site = siteOfRanks(name);
    if (site && dims[0] > 0) scores.set(site, tripletScores(site, values, state));
  }
  const all = Float64Array.from([...scores.values()].flatMap((s) => [...s])).sort();
  const pruned = all.length - budgetAt(c, step, end, all.length, c.targetR * scores.size);
  const threshold = pruned > 0 ? all[pruned - 1] : Number.NEGATIVE_INFINITY;
  const left = Object.fromEntries(
    [...scores].map(([site, s]) => [site, Array.from(s, (score) => score > threshold)]),
  );
  maskTo(left, values);
  return left;
}

/** Sets the λ of what is not left to zero. */
export function maskTo(left: Readonly<Record<string, readonly boolean[]>>, values: Values): void {
  for (const [site, ranks] of Object.entries(left)) {
    const { data } = values.get(`${site}.adalora_E`)!;
    for (const [i, stays] of ranks.entries()) if (!stays) data[i] = 0;
  }
}

/** Ranks as a table: a row for each numbered layer, a column for each kind of module in it. */
export function rankTable(ranks: ReadonlyMap<string, number>): (string | number)[][] {
  const places = [...ranks].map(([site, rank]) => {
    const [, layer = '', module] = /^(?:.*?\.(\d+)\.)?(?:.*\.)?([^.]+)$/.exec(site)!;
    return { layer, module, rank };
  });
  const modules = [...new Set(places.map(({ module }) => module))];
  const rows = [...new Set(places.map(({ layer }) => layer))].map((layer) => {
    const own = new Map(places.filter((p) => p.layer === layer).map((p) => [p.module, p.rank]));
    const sum = [...own.values()].reduce((a, b) => a + b, 0);
    return [layer, ...modules.map((module) => own.get(module) ?? ''), sum];
  });
  return [['layer', ...modules, 'ranks'], ...rows];
}

/** The site that a tensor has the λ of; undefined for any other tensor. */
export function siteOfRanks(name: string): string | undefined {
  const key = splitAdapterKey(name);
  return key?.part === 'adalora_E' ? key.site : undefined;
}

/** Of each triplet: the importance of its λ, and the means of those of its row of Q and column of P. */
function tripletScores(site: string, values: Values, state: MethodState): Float64Array {
  const score = (part: string) => {
    const name = `${site}.adalora_${part}`;
    const [sensitivity, uncertainty] = ['sensitivity', 'uncertainty'].map(
      (what) => state.tensors.get(`${name}.${what}`)?.data,
    );
    return (i: number) => (sensitivity && uncertainty ? sensitivity[i] * uncertainty[i] : 0);
  };
  const [r, width] = values.get(`${site}.adalora_A`)!.dims;
  const [height] = values.get(`${site}.adalora_B`)!.dims;
  const [a, e, b] = ['A', 'E', 'B'].map(score);
  return Float64Array.from({ length: r }, (_, i) => {
    let [row, column] = [0, 0];
    for (let j = 0; j < width; j++) row += a(i * width + j);
    for (let j = 0; j < height; j++) column += b(j * r + i);
    return e(i) + row / width + column / height;
  });
}
