/** Why a merged adapter costs nothing, and what the others cost. */
import { copyOf } from '../../methods/adapter.js';
import type { MethodConfig, MethodName } from '../../methods/index.js';
import type { KvCache } from '../../serve/cache.js';
import { type Active, Decoder, type DecodeStep } from '../../serve/decode.js';
import { digits, type Topic, whole } from './answer.js';
import type { Bench } from './bench.js';

const STEPS = 6;
const ROUNDS = 40;
/** What the paper's Table 1 has at batch 1 and 128 tokens. */
const PAPER = { pfeiffer: '+20.7%', houlsby: '+30.3%' };

interface Way {
  name: string;
  key: string;
  active: Active;
  paper?: string;
}

interface Running {
  way: Way;
  decoder: Decoder;
  step: DecodeStep;
  cache: KvCache;
  logits: Float32Array;
  times: number[];
}

/** Trained for a moment, so that it does change the model. */
async function active<M extends MethodName>(
  bench: Bench,
  method: M,
  config: MethodConfig<M>,
  merged = false,
): Promise<Active> {
  const { adapter } = await bench.train({ what: method, method, config, steps: STEPS });
  return { base: bench.base, adapter: copyOf(adapter), merged };
}

export const latency: Topic = {
  name: 'latency',
  question: 'Why does LoRA cost nothing at inference?',
  async measure(bench) {
    const lora = await active(bench, 'lora', { r: 8, targetModules: 'all-linear' });
    const base: Active = { base: bench.base, adapter: undefined, merged: false };
    const ways: Way[] = [
      { name: 'base', key: 'base', active: base },
      { name: 'LoRA, merged', key: 'merged', active: { ...lora, merged: true }, paper: '0%' },
      { name: 'LoRA, apart', key: 'apart', active: lora },
      {
        name: 'adapters, one a layer',
        key: 'pfeiffer',
        active: await active(bench, 'pfeiffer', { bottleneckSize: 8 }),
        paper: PAPER.pfeiffer,
      },
      {
        name: 'adapters, two a layer',
        key: 'houlsby',
        active: await active(bench, 'houlsby', { bottleneckSize: 8 }),
        paper: PAPER.houlsby,
      },
      // What the other ratios are worth.
      { name: 'base, once more', key: 'control', active: base },
    ];
    const ids = bench.model.tokenizer.encode(bench.task.heldOut[0].prompt);
    const running: Running[] = [];
    for (const way of ways) running.push(await begun(bench, way, ids));
    // In turns, so that what else the machine does falls on all of them.
    for (let round = 0; round < ROUNDS; round++) {
      for (const one of running) {
        const before = performance.now();
        await one.step.run([ids[round % ids.length]], one.cache);
        one.times.push(performance.now() - before);
      }
    }
    for (const { step, decoder } of running) {
      await step.close();
      await decoder.close();
    }
    const [plain, merged, apart] = running;
    const ratio = ({ times }: Running) => median(times.map((time, i) => time / plain.times[i]));
    const difference = merged.logits.reduce((most, x, i) => Math.max(most, Math.abs(x - apart.logits[i])), 0);
    const size = merged.logits.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const change = merged.logits.reduce((most, x, i) => Math.max(most, Math.abs(x - plain.logits[i])), 0);
    const matrices = new Set(lora.adapter!.trainables.map(({ at }) => at!.site)).size;
    const figures = Object.fromEntries(
      running.flatMap((one) => [
        [`${one.way.key}Nodes`, one.decoder.nodeCount],
        [`${one.way.key}Ratio`, ratio(one)],
      ]),
    );
    return {
      text: [
        `W₀x + (α/r)·B(Ax) is (W₀ + (α/r)·BA)x, and the sum in brackets has the shape of W₀: it can be computed once, and then the model is one of the same size that does for a token what the base does. The base's graph has ${plain.decoder.nodeCount} nodes. Merged in memory there are ${merged.decoder.nodeCount}: one more for each of the ${matrices} matrices, which makes that sum once, when the graph is loaded. Apart there are ${apart.decoder.nodeCount}, for every token.`,
        `Merged and apart give the same: of the ${whole(merged.logits.length)} logits behind a prompt none differs by more than ${digits(difference, 2)}, where the largest is ${digits(size)} and the adapter changed them by up to ${digits(change)}.`,
        `The adapters of Houlsby and of Pfeiffer are layers of their own, with a nonlinearity between: nothing can be merged, and each waits for what is before it. The ratios are those of ${ROUNDS} tokens of one sequence, taken in turns on this machine, medians; the paper's (Table 1) are of GPT-2 medium on a GPU, with sequences of 128 tokens and batches of 1. On a machine that does other work, or a model as small as this, small differences are noise: the base itself, measured once more in the same rounds, comes to ${digits(ratio(running.at(-1)!))}×.`,
      ],
      tables: [
        {
          head: ['', 'nodes', 'time of a token', 'in the paper'],
          rows: running.map((one) => [
            one.way.name,
            one.decoder.nodeCount,
            `${digits(ratio(one))}×`,
            one.way.paper ?? '',
          ]),
        },
      ],
      figures: { matrices, logitsDifference: difference, logitsChange: change, ...figures },
    };
  },
};

async function begun(bench: Bench, way: Way, ids: readonly number[]): Promise<Running> {
  const decoder = new Decoder(bench.runtime, way.active, bench.session);
  const step = await decoder.step(way.active.adapter && copyOf(way.active.adapter));
  const cache = step.newCache();
  return { way, decoder, step, cache, logits: await step.run(ids, cache), times: [] };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}
