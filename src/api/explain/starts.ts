/** Why B starts at zero, and why the update is scaled by α/r: what the first gradient says. */
import { Rng } from '../../base/rng.js';
import type { F32Tensor } from '../../base/tensor.js';
import type { Adapter } from '../../methods/adapter.js';
import { digits, nats, norm, type Topic } from './answer.js';
import type { Bench } from './bench.js';

const TARGETS = ['q_proj', 'v_proj'];
const STEPS = 12;

/** Sets A or B of every layer. */
function fill(
  adapter: Adapter,
  part: 'lora_A' | 'lora_B',
  values: (name: string, length: number) => Float32Array,
): void {
  for (const [name, tensor] of adapter.values) {
    if (name.endsWith(`.${part}`)) tensor.data.set(values(name, tensor.data.length));
  }
}

function gaussian(seed: number, deviation: number) {
  return (name: string, length: number) => {
    const rng = new Rng(seed, `explain ${name}`);
    return Float32Array.from({ length }, () => deviation * rng.normal());
  };
}

const zeros = (_: string, length: number) => new Float32Array(length);

/** Of A, or of B, in all layers. */
function partNorm(tensors: ReadonlyMap<string, F32Tensor>, part: 'lora_A' | 'lora_B'): number {
  return norm([...tensors].flatMap(([name, { data }]) => (name.endsWith(`.${part}`) ? [data] : [])));
}

export const zero: Topic = {
  name: 'zero',
  question: 'Why does B start at zero, and A at random?',
  async measure(bench) {
    const config = { r: 8, loraAlpha: 16, targetModules: TARGETS };
    const starts = [
      { name: 'A random, B zero (LoRA)', key: 'lora', set: () => {} },
      {
        name: 'A and B zero',
        key: 'bothZero',
        set: (adapter: Adapter) => fill(adapter, 'lora_A', zeros),
      },
      {
        name: 'A and B random',
        key: 'bothRandom',
        // As large as A: drawn alike, in a matrix of as many columns as A has rows.
        set: (adapter: Adapter) => fill(adapter, 'lora_B', gaussian(bench.seed, 1 / Math.sqrt(3 * config.r))),
      },
    ];
    const figures: Record<string, number> = {};
    const rows: (string | number)[][] = [];
    const base = await bench.baseLossAtStart();
    for (const { name, key, set } of starts) {
      const adapter = await bench.start('lora', config);
      set(adapter);
      const probe = await bench.probe(adapter);
      const { loss, grads } = await probe.run();
      await probe.close();
      const [a, b] = [partNorm(grads, 'lora_A'), partNorm(grads, 'lora_B')];
      const { losses } = await bench.train({ what: name, method: 'lora', config, steps: STEPS, start: set });
      const after = losses.slice(-3).reduce((sum, one) => sum + one / 3, 0);
      Object.assign(figures, {
        [`${key}Loss`]: loss,
        [`${key}GradA`]: a,
        [`${key}GradB`]: b,
        [`${key}After`]: after,
      });
      rows.push([name, nats(loss), digits(a), digits(b), nats(after)]);
    }
    const { loraGradB, bothRandomLoss, bothRandomGradA, loraLoss } = figures;
    return {
      text: [
        `h = W₀x + (α/r)·B(Ax). The gradient of B holds A, and that of A holds B. With B = 0 the product BA is zero, so the first loss is the base's (${nats(base)} on these rows; with LoRA ${nats(loraLoss)}), the gradient of A is zero and that of B is not (${digits(loraGradB)}): the first step moves B, and from the second on A moves too.`,
        'With both zero, both gradients are zero and nothing ever moves: the loss of the batches only wanders with their rows.',
        `With both random it learns too (A's gradient is there from the first step, ${digits(bothRandomGradA)}), but it starts from another model than the one that was chosen: the loss is ${nats(bothRandomLoss)} before anything was learnt, and the more random numbers, the further off.`,
        'B random and A zero would do as well as the other way round: one of the two has to be zero, and only one.',
      ],
      tables: [
        {
          head: ['start', 'loss at step 0', '‖∂L/∂A‖', '‖∂L/∂B‖', `loss, steps ${STEPS - 2} to ${STEPS}`],
          rows,
        },
      ],
      figures: { baseLoss: base, ...figures },
    };
  },
};

const RANKS = [2, 8, 32];
const RATE = 1e-3;

/** Change of the loss by one first step of AdamW at a scale that is 1, α/r or α/√r, relative to the gradient's own promise. */
async function firstStep(bench: Bench, r: number, loraAlpha: number) {
  const adapter = await bench.start('lora', { r, loraAlpha, targetModules: TARGETS });
  const probe = await bench.probe(adapter);
  const before = await probe.run();
  probe.update(before.grads, RATE);
  const after = await probe.run();
  await probe.close();
  const gradients = [...before.grads].filter(([name]) => name.endsWith('.lora_B'));
  const promised =
    RATE * gradients.reduce((sum, [, { data }]) => sum + data.reduce((s, g) => s + Math.abs(g), 0), 0);
  return { promised, fell: before.loss - after.loss };
}

export const alpha: Topic = {
  name: 'alpha',
  question: 'Why is the update scaled by α/r?',
  async measure(bench) {
    const rows: (string | number)[][] = [];
    const figures: Record<string, number> = {};
    for (const r of RANKS) {
      const [plain, scaled] = [await firstStep(bench, r, r), await firstStep(bench, r, RANKS[0])];
      figures[`plainR${r}`] = plain.promised;
      figures[`scaledR${r}`] = scaled.promised;
      figures[`plainFellR${r}`] = plain.fell;
      figures[`scaledFellR${r}`] = scaled.fell;
      rows.push([
        r,
        digits(plain.promised),
        digits(plain.fell),
        digits(scaled.promised),
        digits(scaled.fell),
      ]);
    }
    const [first, last] = [RANKS[0], RANKS[RANKS.length - 1]];
    const plain = figures[`plainR${last}`] / figures[`plainR${first}`];
    const scaled = figures[`scaledR${last}`] / figures[`scaledR${first}`];
    return {
      text: [
        `AdamW moves every element of B by about the learning rate, whatever r is, and each of the r columns adds its part to the change of W. So without a scale a larger r means a larger step: from r=${first} to r=${last}, the first step at a learning rate of ${RATE} changes W's output so that the loss should fall ${digits(plain)} times as far (rate · Σ|∂L/∂B|).`,
        `Divided by r (α stays ${first}), it is ${digits(scaled)} times: the learning rate that was found at one r is about right at the others. That is why α is set once, to the first r that is tried, and not tuned; to double α is much the same as to double the learning rate.`,
        'rsLoRA divides by √r instead, because with α/r a large rank learns too slowly later on (arXiv:2312.03732).',
      ],
      tables: [
        {
          head: ['r', 'scale 1: promised', 'fell', 'scale α/r: promised', 'fell'],
          rows,
        },
      ],
      figures: { plainTimes: plain, scaledTimes: scaled, ...figures },
    };
  },
};
