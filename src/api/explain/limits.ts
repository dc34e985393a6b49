/** Where LoRA stops: tasks that cannot share a batch, ranks that are too small, a base that stays in memory. */
import { builtInShape } from '../../analysis/plan/builtIn.js';
import { countMethod } from '../../analysis/plan/parameters.js';
import { bytesText } from '../../base/text.js';
import { packedBytes, type QuantFormat, quantCodecs } from '../../formats/quant/index.js';
import { parameterCount } from '../../models/shape.js';
import { digits, nats, norm, share, type Topic, whole } from './answer.js';
import type { Bench, Task } from './bench.js';

const STEPS = 20;

/** The same prompts, answered in capitals: another task for the same model. */
function shouted({ task }: Bench): Task {
  const rows = (part: Task['train']) =>
    part.map(({ prompt, completion }) => ({ prompt, completion: completion.toUpperCase() }));
  return { train: rows(task.train), heldOut: rows(task.heldOut) };
}

export const limits: Topic = {
  name: 'limits',
  question: 'When does LoRA fail?',
  async measure(bench) {
    const other = shouted(bench);
    const config = { r: 8, loraAlpha: 16, targetModules: 'all-linear' as const };
    const plain = await bench.train({ what: 'reports', method: 'lora', config, steps: STEPS });
    const plainOnOther = await bench.heldOutLoss(other);
    const capitals = await bench.train({
      what: 'reports in capitals',
      method: 'lora',
      config,
      steps: STEPS,
      task: other,
    });
    const capitalsOnPlain = await bench.heldOutLoss();
    const narrow = { r: 1, loraAlpha: 2, targetModules: ['q_proj'] };
    const small = await bench.train({
      what: 'capitals, W_q at r=1',
      method: 'lora',
      config: narrow,
      steps: STEPS,
      task: other,
    });
    const smallParameters = countMethod(bench.base, 'lora', narrow).trainable.value;
    const parameters = countMethod(bench.base, 'lora', config).trainable.value;
    const [mixedMerged, mixedApart] = [
      (plain.heldOut + plainOnOther) / 2,
      (plain.heldOut + capitals.heldOut) / 2,
    ];
    return {
      text: [
        `1. Tasks that are merged cannot share a batch. A merged model has one task in its weights. Here are two, weather reports and the same in capitals: with the first one merged, a batch of both has a held-out loss of ${nats(mixedMerged)}, with each row's own adapter kept apart ${nats(mixedApart)}. Apart, each row costs two small products more; servers such as S-LoRA (arXiv:2311.03285) mix many adapters in a batch that way.`,
        `2. The rank, and what is adapted, are chosen by hand, and a task that is far from what the base knows needs more. Capitals are far. With W_q alone at r=1 (${whole(smallParameters)} parameters) ${STEPS} steps end at ${nats(small.heldOut)}, with all layers at r=8 (${whole(parameters)}) at ${nats(capitals.heldOut)}. \`lowrank train --rank-budget\` divides a budget by what the gradients say, AdaLoRA while it trains.`,
        '3. The paper adapted attention alone; where a task needs new knowledge the MLP layers count (explain weights).',
        '4. The base stays in memory, in training and afterwards: LoRA makes the changes small, not the model (explain qlora).',
      ],
      tables: [
        {
          head: ['held-out loss', 'on reports', 'on capitals'],
          rows: [
            ['adapter for reports', nats(plain.heldOut), nats(plainOnOther)],
            ['adapter for capitals', nats(capitalsOnPlain), nats(capitals.heldOut)],
            ['capitals, W_q at r=1', '', nats(small.heldOut)],
          ],
        },
      ],
      figures: {
        reportsOnReports: plain.heldOut,
        reportsOnCapitals: plainOnOther,
        capitalsOnReports: capitalsOnPlain,
        capitalsOnCapitals: capitals.heldOut,
        narrowOnCapitals: small.heldOut,
        mixedMerged,
        mixedApart,
      },
    };
  },
};

const FORMATS = ['int8', 'int4', 'nf4'] as const satisfies readonly QuantFormat[];

/** Bytes of a model whose linear layers are quantized; what else it has stays in 16 bits. */
function quantizedBytes(name: string, format: QuantFormat): number {
  const { sites, parameters } = builtInShape(name)!;
  const layers = sites.filter((site) => site.kind === 'linear' && site.name.includes('.layers.'));
  const held = layers.reduce((sum, site) => sum + packedBytes(format, [site.out, site.in]), 0);
  const numbers = layers.reduce((sum, site) => sum + site.out * site.in, 0);
  return held + 2 * (parameterCount({ parameters }) - numbers);
}

export const qlora: Topic = {
  name: 'qlora',
  question: 'How does QLoRA fit a large model into little memory?',
  async measure(bench) {
    const llama = builtInShape('llama-7b')!;
    const half = 2 * parameterCount(llama);
    const trained = countMethod(llama, 'lora', { r: 8, targetModules: 'all-linear' }).trainable.value;
    const layers = bench.base.sites.filter(
      (site) => site.kind === 'linear' && site.name.includes('.layers.'),
    );
    const errors = new Map<QuantFormat, number>();
    for (const format of FORMATS) {
      const { quantize, dequantize } = quantCodecs[format];
      let [wrong, all] = [0, 0];
      for (const site of layers) {
        const shape = [site.out, site.in] as const;
        const weights = await bench.base.checkpoint.read(`${site.name}.weight`);
        const back = dequantize(quantize(weights, shape), shape);
        wrong += norm([back.map((value, i) => value - weights[i])]) ** 2;
        all += norm([weights]) ** 2;
      }
      errors.set(format, Math.sqrt(wrong / all));
    }
    const rows = [
      ['float16', bytesText(half), '16', ''],
      ...FORMATS.map((format) => {
        const [{ in: width, out }] = layers;
        const bits = (8 * packedBytes(format, [out, width])) / (out * width);
        return [
          format,
          bytesText(quantizedBytes('llama-7b', format)),
          digits(bits),
          share(errors.get(format)!),
        ];
      }),
    ];
    const nf4 = quantizedBytes('llama-7b', 'nf4');
    const adapter = 16 * trained;
    return {
      text: [
        `LoRA never changes W₀, so W₀ may be stored as coarsely as its products allow. QLoRA (arXiv:2305.14314) keeps each number in 4 bits, whose 16 values are the quantiles of a normal distribution (NF4), with one scale for each 64. Llama 2 7B: ${bytesText(half)} in float16, ${bytesText(nf4)} in NF4. A, B, their gradients and AdamW's moments stay in float32: at r=8 on all layers ${whole(trained)} parameters, ${bytesText(adapter)}.`,
        `What is lost, measured on the ${layers.length} matrices of the model that comes along: ${FORMATS.map((format) => `${format} ${share(errors.get(format)!)}`).join(', ')} of ‖W‖. int4 has a scale for each 32 numbers, NF4 one for each 64; bits are those of the files here, which keep NF4's scales in float32 (with scales in 8 bits, as QLoRA has them on a GPU, it is ${digits(4 + 8 / 64 + 32 / (64 * 256), 4)}).`,
        'In the forward and the backward pass a matrix is unpacked, multiplied and forgotten. Gradients flow through it to A and B, and never into it. LoftQ and PiSSA start A and B so that they make up for part of the error.',
      ],
      tables: [{ head: ['base in', 'Llama 2 7B', 'bits a number', 'error of W'], rows }],
      figures: {
        float16Bytes: half,
        nf4Bytes: nf4,
        adapterBytes: adapter,
        ...Object.fromEntries(FORMATS.map((format) => [`${format}Error`, errors.get(format)!])),
      },
    };
  },
};
