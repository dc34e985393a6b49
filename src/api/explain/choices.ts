/** What to adapt, with which rank, and by which method: short trainings set side by side. */
import { countMethod } from '../../analysis/plan/parameters.js';
import { snakeCase } from '../../base/names.js';
import type { MethodConfig, MethodName } from '../../methods/index.js';
import { methods } from '../../methods/index.js';
import { digits, nats, share, type Topic, whole } from './answer.js';

const STEPS = 12;
const CAUTION = `The figures are of ${STEPS} steps with one seed on a small model: they show how it is looked at, and a ranking of neighbours among them may be noise. \`lowrank lab\` runs such tables with several seeds.`;

export const weights: Topic = {
  name: 'weights',
  question: 'Why adapt only W_q and W_v?',
  async measure(bench) {
    const choices: [string, string, string[], number][] = [
      ['W_q', 'q', ['q_proj'], 8],
      ['W_v', 'v', ['v_proj'], 13],
      ['W_q, W_v', 'qv', ['q_proj', 'v_proj'], 5],
      ['W_q, W_k, W_v, W_o', 'qkvo', ['q_proj', 'k_proj', 'v_proj', 'o_proj'], 3],
      [
        'all linear layers',
        'all',
        ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
        1,
      ],
    ];
    const base = await bench.heldOutLoss();
    const figures: Record<string, number> = { base };
    const rows: (string | number)[][] = [];
    for (const [name, key, targetModules, r] of choices) {
      const config = { r, loraAlpha: 16, targetModules };
      const { heldOut } = await bench.train({ what: name, method: 'lora', config, steps: STEPS });
      const { value } = countMethod(bench.base, 'lora', config).trainable;
      figures[`${key}Loss`] = heldOut;
      figures[`${key}Parameters`] = value;
      rows.push([name, r, value, nats(heldOut)]);
    }
    const { qLoss, qvLoss, allLoss } = figures;
    return {
      text: [
        "It need not be only these. The paper's question (Table 5) is what to do with a fixed budget of parameters: all of it in one kind of matrix at a high rank, or in several at a lower one? On GPT-3 W_q and W_v at r=4 (73.7 on WikiSQL, 91.3 on MultiNLI) beat W_q alone at r=8 (70.4, 91.0), and all four at r=2 were as good (73.7, 91.7). The paper left the MLP layers out to keep things simple.",
        `Here, with about as many parameters each, from a held-out loss of ${nats(base)}: W_q alone ends at ${nats(qLoss)}, W_q with W_v at ${nats(qvLoss)}, all linear layers at r=1 at ${nats(allLoss)}. ${allLoss < qvLoss ? 'Spread over all layers, even one direction a matrix goes further, which is why later work adapts all of them (QLoRA, arXiv:2305.14314).' : 'All layers did not go further here.'}`,
        CAUTION,
      ],
      tables: [{ head: ['adapted', 'r', 'parameters', 'held-out loss'], rows }],
      figures,
    };
  },
};

export const family: Topic = {
  name: 'family',
  question: 'What do DoRA and the other descendants of LoRA change?',
  async measure(bench) {
    const shared = { r: 4, loraAlpha: 8, targetModules: 'all-linear' as const };
    const chosen: [MethodName, MethodConfig<'lora'>, string][] = [
      ['lora', shared, 'h = W₀x + (α/r)·BAx'],
      ['dora', shared, 'direction and length of each row trained apart: m · (W₀ + BA)/‖W₀ + BA‖'],
      ['pissa', shared, "A and B start as W₀'s largest singular directions, which W₀ loses"],
      [
        'vera',
        { ...shared, r: 64 },
        'A and B random, frozen and shared by all layers; two vectors a layer train',
      ],
    ];
    const base = await bench.heldOutLoss();
    const figures: Record<string, number> = { base };
    const rows: (string | number)[][] = [];
    let first: number | undefined;
    for (const [method, config, words] of chosen) {
      const known = Object.keys(methods[method].options.shape);
      const own = Object.fromEntries(
        Object.entries(config).filter(([key]) => known.includes(snakeCase(key))),
      ) as MethodConfig<'lora'>;
      const training = { what: method, method, config: own as MethodConfig<typeof method>, steps: STEPS };
      const { heldOut, seconds } = await bench.train(training);
      first ??= seconds;
      const { value } = countMethod(bench.base, method, own).trainable;
      Object.assign(figures, {
        [`${method}Loss`]: heldOut,
        [`${method}Parameters`]: value,
        [`${method}Time`]: seconds / first,
      });
      rows.push([methods[method].card.title, value, `${digits(seconds / first)}×`, nats(heldOut), words]);
    }
    const { loraParameters, doraParameters, doraTime, veraParameters } = figures;
    return {
      text: [
        `DoRA asks what full fine-tuning does that LoRA does not: it changes directions and lengths of W's rows independently. It trains one length a row more (${whole(doraParameters)} parameters against ${whole(loraParameters)}), costs ${digits(doraTime)} times the time of a step here, and merges as LoRA does. VeRA goes the other way: ${whole(veraParameters)} parameters, ${share(veraParameters / loraParameters)} of LoRA's. PiSSA changes nothing but the start.`,
        CAUTION,
        'VeRA wants a larger learning rate than the one that all have here. `lowrank methods` lists all of them, and docs/methods.md compares them on a larger model.',
      ],
      tables: [{ head: ['method', 'parameters', 'time of a step', 'held-out loss', 'idea'], rows }],
      figures,
    };
  },
};
