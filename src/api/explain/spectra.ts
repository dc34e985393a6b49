/** Why low rank is enough, and what r does: spectra of changes. */
import { singularValues } from '../../base/linalg/index.js';
import { Rng } from '../../base/rng.js';
import { digits, norm, share, type Topic, whole } from './answer.js';

const STEPS = 16;
const LAYER = 'model.layers.2.self_attn';
const SHOWN = 8;

/** What of Σσ² the first few hold. */
function held(values: readonly number[], count: number): number {
  const energy = (list: readonly number[]) => list.reduce((sum, value) => sum + value * value, 0);
  return energy(values.slice(0, count)) / energy(values);
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
      const name = `${LAYER}.${role}.weight`;
      const { data, dims } = full.adapter.values.get(name)!;
      const before = await bench.base.checkpoint.read(name);
      const change = data.map((value, i) => value - before[i]);
      const values = singularValues(change, dims[0], dims[1]);
      const random = singularValues(
        change.map(() => rng.normal()),
        dims[0],
        dims[1],
      );
      Object.assign(figures, {
        [`${role}Top1`]: held(values, 1),
        [`${role}Top8`]: held(values, SHOWN),
        [`${role}Random8`]: held(random, SHOWN),
      });
      const size = norm([change]) / norm([before]);
      for (const [what, list] of [
        [`ΔW of ${role}`, values],
        [`random, ${dims.join(' × ')}`, random],
      ] as const) {
        const shares = [1, 4, SHOWN].map((count) => share(held(list, count)));
        rows.push([what, list.length, ...shares, list === values ? share(size) : '']);
      }
    }
    return {
      text: [
        `Fine-tuning moves W by a ΔW that has far fewer directions in it than it could have. Here every weight was trained for ${STEPS} steps: of ΔW of W_q in the third layer the first ${SHOWN} of ${rows[0][1]} directions hold ${share(figures.q_projTop8)} of ‖ΔW‖², the first alone ${share(figures.q_projTop1)}. In a random matrix of that shape ${SHOWN} hold ${share(figures.q_projRandom8)}.`,
        `So B·A with r=${SHOWN} can hold most of what such a step does. After ${STEPS} steps (at learning rates of 1e-3 and 5e-3) the held-out loss is ${digits(full.heldOut, 4)} with all ${whole(bench.model.parameters.total)} parameters trained and ${digits(lora.heldOut, 4)} with LoRA. ${lora.heldOut > full.heldOut ? 'Full fine-tuning is ahead here: this model is small, and its task far from what it was trained on. The larger and better trained the base, the less is left to change; on GPT-3 the paper found LoRA level (Table 4).' : ''}`,
        "The paper's hypothesis goes back to the intrinsic dimension of fine-tuning (Aghajanyan et al., arXiv:2012.13255). It is a finding, not a law: `lowrank analyze` shows whether an adapter's spectrum has fallen at r, and what a task has that the base has not may need more.",
      ],
      tables: [{ head: ['matrix', 'directions', 'first', 'first 4', `first ${SHOWN}`, '‖ΔW‖/‖W‖'], rows }],
      figures,
    };
  },
};

const RANKS = [1, 4, 16, 64];

export const rank: Topic = {
  name: 'rank',
  question: 'What does r do?',
  async measure(bench) {
    const figures: Record<string, number> = {};
    const rows: (string | number)[][] = [];
    for (const r of RANKS) {
      const { adapter, heldOut } = await bench.train({
        what: `r=${r}`,
        method: 'lora',
        config: { r, loraAlpha: 16, targetModules: 'all-linear' },
        steps: STEPS,
      });
      const parameters = [...adapter.values.values()].reduce((sum, { data }) => sum + data.length, 0);
      figures[`lossR${r}`] = heldOut;
      figures[`parametersR${r}`] = parameters;
      rows.push([r, parameters, digits(heldOut, 4)]);
    }
    return {
      text: [
        `r is how many directions of its input a layer's change can read, and how many of its output it can write: rank(ΔW) ≤ r. Parameters grow in proportion to it; how good the result is need not. In the paper r=1 was nearly as good as r=64 (Table 6, WikiSQL: 73.4, 73.3, 73.7, 73.8, 73.5 for r = 1, 2, 4, 8, 64).`,
        `Here, after ${STEPS} steps with α at 16: ${RANKS.map((r) => `r=${r} ${digits(figures[`lossR${r}`], 4)}`).join(', ')}. r=64 has ${digits(figures.parametersR64 / figures.parametersR1)} times the parameters of r=1.`,
        'One seed and few steps: neighbours may change places. `lowrank lab` has the grid with several seeds, and `lowrank analyze` says of a trained adapter whether its rank was too large or too small.',
      ],
      tables: [{ head: ['r', 'parameters', 'held-out loss'], rows }],
      figures,
    };
  },
};
