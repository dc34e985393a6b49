/** Why low rank is enough, and what r does: spectra of changes. */

import { analyzeModule, type ModuleAnalysis } from '../../analysis/module.js';
import { denseOf, type Update } from '../../analysis/operator.js';
import { medianOf } from '../../analysis/report.js';
import { effectiveRanks, spectrumOf } from '../../analysis/spectrum.js';
import { directionsOf, expectedSimilarity, similarity } from '../../analysis/subspace.js';
import { type Matrix, matrix } from '../../base/linalg/matrix.js';
import { Rng } from '../../base/rng.js';
import { sizeOf } from '../../base/tensor.js';
import type { Adapter } from '../../methods/adapter.js';
import { productsOf } from '../../methods/products.js';
import { digits, nats, share, type Topic, whole } from './answer.js';
import type { Bench } from './bench.js';

const STEPS = 16;
const LAYER = 'model.layers.2.self_attn';
const SHOWN = 8;

/** What of Σσ² the first few hold. */
function held(values: ArrayLike<number>, count: number): number {
  const energy = (list: readonly number[]) => list.reduce((sum, value) => sum + value * value, 0);
  return energy(Array.from(values).slice(0, count)) / energy(Array.from(values));
}

/** A layer's matrix as the checkpoint has it. */
async function weightOf({ base }: Bench, site: string): Promise<Matrix> {
  const name = `${site}.weight`;
  const [rows, columns] = base.parameters.get(name)!;
  return matrix(rows, columns, await base.checkpoint.read(name));
}

export const lowRank: Topic = {
  name: 'low-rank',
  question: 'Why is a low rank enough?',
  async measure(bench) {
    const full = await bench.train({
      what: 'full fine-tuning',
      method: 'full',
      config: {},
      steps: STEPS,
      learningRate: 1e-3,
    });
    const lora = await bench.train({
      what: 'LoRA, r=8',
      method: 'lora',
      config: { r: SHOWN, loraAlpha: 2 * SHOWN, targetModules: 'all-linear' },
      steps: STEPS,
    });
    const figures: Record<string, number> = { fullLoss: full.heldOut, loraLoss: lora.heldOut };
    const rows: (string | number)[][] = [];
    const rng = new Rng(bench.seed, 'explain spectrum');
    for (const role of ['q_proj', 'v_proj']) {
      const site = `${LAYER}.${role}`;
      const before = await weightOf(bench, site);
      const { rows: out, columns } = before;
      const tuned = full.adapter.values.get(`${site}.weight`)!.data;
      const change = denseOf(
        matrix(
          out,
          columns,
          tuned.map((value, i) => value - before.data[i]),
        ),
      );
      const random = denseOf(
        matrix(
          out,
          columns,
          Float64Array.from(tuned, () => rng.normal()),
        ),
      );
      for (const [what, key, dense] of [
        [`ΔW of ${role}`, role, change],
        [`random, ${out} × ${columns}`, `${role}Random`, random],
      ] as const) {
        const spectrum = await spectrumOf({ kind: 'dense', change: dense }, SHOWN, bench.seed);
        const { of90 } = effectiveRanks(spectrum);
        figures[`${key}Top1`] = held(spectrum.values, 1);
        figures[`${key}Top8`] = held(spectrum.values, SHOWN);
        figures[`${key}Of90`] = of90!;
        const shares = [1, 4, SHOWN].map((count) => share(held(spectrum.values, count)));
        rows.push([what, spectrum.rank, ...shares, of90!]);
      }
    }
    return {
      text: [
        `Fine-tuning moves W by a ΔW that has far fewer directions in it than it could have. Here every weight was trained for ${STEPS} steps: of ΔW of W_q in the third layer the first ${SHOWN} of ${rows[0][1]} directions hold ${share(figures.q_projTop8)} of ‖ΔW‖², the first alone ${share(figures.q_projTop1)}. In a random matrix of that shape ${SHOWN} hold ${share(figures.q_projRandomTop8)}.`,
        `So B·A with r=${SHOWN} can hold most of what such a step does. After ${STEPS} steps (at learning rates of 1e-3 and 5e-3) the held-out loss is ${nats(full.heldOut)} with all ${whole(bench.model.parameters.total)} parameters trained and ${nats(lora.heldOut)} with LoRA. ${lora.heldOut > full.heldOut ? 'Full fine-tuning is ahead here: this model is small, and its task far from what it was trained on. The larger and better trained the base, the less is left to change; on GPT-3 the paper found LoRA level (Table 4).' : ''}`,
        "The paper's hypothesis goes back to the intrinsic dimension of fine-tuning (Aghajanyan et al., arXiv:2012.13255). It is a finding, not a law: `lowrank analyze` shows whether an adapter's spectrum has fallen at r, and what a task has that the base has not may need more.",
      ],
      tables: [{ head: ['matrix', 'directions', 'first', 'first 4', `first ${SHOWN}`, 'for 90%'], rows }],
      figures,
    };
  },
};

const RANKS = [1, 4, 16, 64];
/** Those whose directions are compared. */
const [NARROW, WIDE] = [4, 64];

export const rank: Topic = {
  name: 'rank',
  question: 'What does r do?',
  async measure(bench) {
    const figures: Record<string, number> = {};
    const rows: (string | number)[][] = [];
    const adapters = new Map<number, Adapter>();
    for (const r of RANKS) {
      const { adapter, heldOut } = await bench.train({
        what: `r=${r}`,
        method: 'lora',
        config: { r, loraAlpha: 16, targetModules: 'all-linear' },
        steps: STEPS,
      });
      const parameters = adapter.trainables.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
      adapters.set(r, adapter);
      figures[`lossR${r}`] = heldOut;
      figures[`parametersR${r}`] = parameters;
      rows.push([r, parameters, nats(heldOut)]);
    }
    const phi = await sharedDirections(bench, adapters.get(NARROW)!, adapters.get(WIDE)!);
    Object.assign(figures, phi);
    return {
      text: [
        `r is how many directions of its input a layer's change can read, and how many of its output it can write: rank(ΔW) ≤ r. Parameters grow in proportion to it; how good the result is need not. In the paper r=1 was nearly as good as r=64 (Table 6, WikiSQL: 73.4, 73.3, 73.7, 73.8, 73.5 for r = 1, 2, 4, 8, 64).`,
        `Here, after ${STEPS} steps with α at 16, held-out losses are: ${RANKS.map((r) => `r=${r} ${nats(figures[`lossR${r}`])}`).join(', ')}. r=64 has ${digits(figures.parametersR64 / figures.parametersR1)} times the parameters of r=1.`,
        `Adapters of two ranks share what matters. φ(1, 1), how far the first direction in which B writes is the same at r=${NARROW} and at r=${WIDE}, is ${digits(phi.phiFirst)} (median over the layers; 1 is the same direction); φ(${NARROW}, ${NARROW}), of the first ${NARROW} each, ${digits(phi.phiAll)}. Of random directions ${digits(phi.phiRandom, 2)} is expected.`,
        'One seed and few steps: neighbours may change places. `lowrank lab` has the grid with several seeds, and `lowrank analyze` says of a trained adapter whether its rank was too large or too small.',
      ],
      tables: [{ head: ['r', 'parameters', 'held-out loss'], rows }],
      figures,
    };
  },
};

/** φ of the directions in which B writes, medians over layers. */
async function sharedDirections(bench: Bench, narrow: Adapter, wide: Adapter) {
  const [first, second] = [narrow, wide].map((adapter) => productsOf(adapter, bench.base));
  const [one, all, expected]: number[][] = [[], [], []];
  for (const [site, factors] of first) {
    const updates: Update[] = [factors, second.get(site)!].map((make) => ({ kind: 'product', ...make() }));
    const [a, b] = await Promise.all(
      updates.map(async (update) => directionsOf(update, await spectrumOf(update, WIDE)).b),
    );
    const phi = similarity(a, b);
    one.push(phi[0][0]);
    all.push(phi[NARROW - 1][NARROW - 1]);
    expected.push(expectedSimilarity(1, 1, a.columns));
  }
  return { phiFirst: medianOf(one)!, phiAll: medianOf(all)!, phiRandom: medianOf(expected)! };
}

export const amplification: Topic = {
  name: 'amplification',
  question: 'What does the change have to do with the weights?',
  async measure(bench) {
    const r = 4;
    const { adapter } = await bench.train({
      what: `r=${r}`,
      method: 'lora',
      config: { r, loraAlpha: 2 * r, targetModules: ['q_proj', 'v_proj'] },
      steps: 2 * STEPS,
    });
    const modules: ModuleAnalysis[] = [];
    for (const [site, factors] of productsOf(adapter, bench.base)) {
      const weight = denseOf(await weightOf(bench, site));
      const update: Update = { kind: 'product', ...factors() };
      modules.push(await analyzeModule(site, weight, update, undefined, { directions: r, seed: bench.seed }));
    }
    const rows = modules.map(({ name, relation }) => [
      name.replace('model.layers.', '').replace('.self_attn', ''),
      ...[
        relation.ofChange,
        relation.ofWeight,
        relation.ofRandom,
        relation.weightNorm,
        relation.changeNorm,
      ].map((value) => digits(value)),
      relation.amplification === null ? '-' : digits(relation.amplification),
    ]);
    const median = (figure: (one: ModuleAnalysis['relation']) => number | null) =>
      medianOf(modules.map(({ relation }) => figure(relation))) ?? Number.NaN;
    const [ofChange, ofWeight, ofRandom, factor] = [
      median((one) => one.ofChange),
      median((one) => one.ofWeight),
      median((one) => one.ofRandom),
      median((one) => one.amplification),
    ];
    return {
      text: [
        `Take the ${r} first singular directions of ΔW, U on the side where it writes and V where it reads. ‖UᵀWVᵀ‖ is how much of W lies between them: ${digits(ofChange)} (medians over ${modules.length} matrices). Between W's own first ${r} directions lie ${digits(ofWeight)}, between random ones ${digits(ofRandom)}.`,
        `${ofChange > 1.5 * ofRandom ? 'So ΔW goes neither along what W stresses most nor just anywhere: it takes up directions that are in W, but weakly' : 'Here ΔW lies no closer to W than chance would have it, which on so small a model and after so few steps need not surprise'}, and makes them ‖ΔW‖/‖UᵀWVᵀ‖ = ${digits(factor)} times as strong: the amplification factor.`,
        'In the paper (Table 7, GPT-3, W_q of layer 48, r=4) the three were 0.32, 21.67 and 0.02, and the factor 6.91/0.32 = 21.6.',
      ],
      tables: [{ head: ['matrix', 'of ΔW', 'of W', 'random', '‖W‖', '‖ΔW‖', 'factor'], rows }],
      figures: { ofChange, ofWeight, ofRandom, amplification: factor },
    };
  },
};
