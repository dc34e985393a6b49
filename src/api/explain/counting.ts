/** What can be answered by counting: parameters, checkpoints, the guide's exercises. */
import { builtInShape } from '../../analysis/plan/builtIn.js';
import { countMethod, type Figure, matrixCounts, paperBaseline } from '../../analysis/plan/parameters.js';
import type { ModelShape } from '../../analysis/plan/shapes.js';
import { storageOf } from '../../analysis/plan/storage.js';
import { bytesText } from '../../base/text.js';
import type { MethodName } from '../../methods/index.js';
import { parameterCount } from '../../models/shape.js';
import { planShape } from '../plan.js';
import { type Answer, digits, share, type Topic, whole } from './answer.js';

const QV = ['attention.q', 'attention.v'];
/** Of an adapter of GPT-3 in the paper, section 4.2. */
const PAPER_CHECKPOINT = 35e6;
const FULL_CHECKPOINT = 350e9;
/** A job whose memory is planned: GPT-3's whole context. */
const JOB = { batchSize: 1, maxLength: 2048, gradientCheckpointing: true };

function shape(name: string): ModelShape {
  return builtInShape(name)!;
}

function lora(name: string, r: number, targetModules: readonly string[] = QV): Figure {
  return countMethod(shape(name), 'lora', { r, targetModules }).trainable;
}

export const parameters: Topic = {
  name: 'parameters',
  question: 'How many parameters does LoRA train?',
  compute() {
    const matrix = matrixCounts(12_288, 12_288, 4);
    const small = matrixCounts(4096, 4096, 8);
    const gpt3 = lora('gpt3', 4);
    const half = lora('gpt3', 4, ['attention.q']);
    const rows = (
      [
        ['gpt3', 1],
        ['gpt3', 4],
        ['gpt3', 8],
        ['roberta-base', 8],
        ['roberta-large', 8],
        ['deberta-xxl', 16],
        ['gpt2-medium', 4],
        ['gpt2-large', 4],
        ['llama-7b', 8],
      ] as const
    ).map(([name, r]) => {
      const { value, numbers } = lora(name, r);
      const all = parameterCount(shape(name));
      return [shape(name).name, r, value, share(value / all), numbers];
    });
    return {
      text: [
        `A matrix of d × k has d·k numbers; B (d × r) and A (r × k) have r·(d + k). A square one of 12,288 at r=4: ${whole(matrix.full.value)} against ${whole(matrix.lora.value)}, ${whole(matrix.times)} times fewer; one of 4,096 at r=8: ${whole(small.full.value)} against ${whole(small.lora.value)}, ${whole(small.times)} times fewer.`,
        `GPT-3 has 96 layers, and W_q and W_v in each: 192 matrices, so r=4 trains ${gpt3.numbers} = ${whole(gpt3.value)}. The ${digits(half.value / 1e6, 2)}M that is sometimes written counts 96 matrices, W_q alone: ${whole(half.value)}.`,
        'The table has the same for other models, W_q and W_v each. GPT-2 has one matrix for q, k and v; an adapter of it trains as many, r·(d + 3d).',
      ],
      tables: [{ head: ['model', 'r', 'trained', 'of all', 'computed as'], rows }],
      figures: {
        matrixFull: matrix.full.value,
        matrixLora: matrix.lora.value,
        matrixTimes: matrix.times,
        smallTimes: small.times,
        gpt3R4: gpt3.value,
        gpt3R4QueryOnly: half.value,
      },
    };
  },
};

export const cost: Topic = {
  name: 'cost',
  question: 'What does a fine-tuned model for each of 1,000 tasks cost?',
  compute() {
    const gpt3 = shape('gpt3');
    const total = parameterCount(gpt3);
    const { value: trained, numbers } = lora('gpt3', 4);
    const paper = storageOf(FULL_CHECKPOINT, PAPER_CHECKPOINT, 1000);
    const own = storageOf(2 * total, 2 * trained, 1000);
    const memory = (name: string, method: MethodName) =>
      planShape(shape(name), {
        ...JOB,
        method,
        ...(method === 'lora' && { methodOptions: { r: 4, targetModules: QV } }),
      }).memory;
    const [full, adapted] = (['full', 'lora'] as const).map((method) => memory('gpt3', method).gpu);
    const [fullRun, adaptedRun] = (['full', 'lora'] as const).map(
      (method) => memory('llama-3-1b', method).here!.total,
    );
    const { total: fullTraining, ...parts } = full;
    const { total: loraTraining } = adapted;
    return {
      text: [
        `GPT-3 has ${whole(total)} parameters: ${bytesText(2 * total)} in float16. A thousand tasks, each with a model of its own, are ${bytesText(own.full.value)}. With LoRA (r=4 on W_q and W_v) they share one base, and each has ${numbers} = ${whole(trained)} numbers, ${bytesText(2 * trained)}: together ${bytesText(own.adapters.value)}, ${whole(own.times)} times less.`,
        `With the paper's rounded figures, 350 GB and 35 MB: ${bytesText(paper.full.value)} against ${bytesText(paper.adapters.value)}, ${whole(paper.times)} times less.`,
        `Training costs memory too. The table is what \`lowrank plan gpt3\` counts on GPUs, in mixed precision with Adam, for one row of ${whole(JOB.maxLength)} tokens with gradient checkpointing: ${bytesText(fullTraining)} for all of GPT-3, ${bytesText(loraTraining)} with LoRA, ${digits(fullTraining / loraTraining)} times less. Gradients and the optimizer's numbers are paid for A and B alone; the base itself stays in memory either way, and so do activations. (The paper reports 1.2 TB and 350 GB.)`,
        `A run of lowrank itself computes on the CPU in float32, and keeps 20 bytes of each parameter that trains: its value, its gradient twice, AdamW's two moments. For ${shape('llama-3-1b').name} and the same row the planner forecasts ${bytesText(fullRun)} for all of it, ${bytesText(adaptedRun)} with LoRA.`,
      ],
      tables: [
        {
          head: ['GPT-3 in training', 'all of it', 'LoRA', 'counted as'],
          rows: [
            ...Object.entries(parts).map(([what, { value, formula }]) => {
              const { value: less, formula: other } = adapted[what as keyof typeof parts];
              const both = other === formula ? formula : `${formula}; with LoRA ${other}`;
              return [what, bytesText(value), bytesText(less), both];
            }),
            ['total', bytesText(fullTraining), bytesText(loraTraining), ''],
          ],
        },
      ],
      figures: {
        paperFullBytes: paper.full.value,
        paperAdapterBytes: paper.adapters.value,
        paperTimes: paper.times,
        fullBytes: own.full.value,
        adapterBytes: own.adapters.value,
        times: own.times,
        fullTrainingBytes: fullTraining,
        loraTrainingBytes: loraTraining,
        fullRunBytes: fullRun,
        loraRunBytes: adaptedRun,
      },
    };
  },
};

/** An exercise: what is asked, and the figure with its formula. */
interface Exercise {
  name: string;
  asks: string;
  figure: Figure;
}

function exerciseList(): Exercise[] {
  const square = matrixCounts(12_288, 12_288, 4);
  const small = matrixCounts(4096, 4096, 8);
  const gpt3 = shape('gpt3');
  const storage = storageOf(FULL_CHECKPOINT, PAPER_CHECKPOINT, 1000);
  // Table 7 of the paper, r = 4.
  const [change, projected] = [6.91, 0.32];
  return [
    { name: 'squareFull', asks: 'numbers of a matrix of 12,288 × 12,288', figure: square.full },
    { name: 'squareLora', asks: 'those of its LoRA at r=4', figure: square.lora },
    {
      name: 'squareTimes',
      asks: 'how many times fewer',
      figure: {
        value: square.times,
        formula: 'd·k / (r·(d + k))',
        numbers: `${square.full.value}/${square.lora.value}`,
      },
    },
    {
      name: 'smallTimes',
      asks: 'the same of 4,096 × 4,096 at r=8',
      figure: {
        value: small.times,
        formula: 'd·k / (r·(d + k))',
        numbers: `${small.full.value}/${small.lora.value}`,
      },
    },
    { name: 'gpt3R1', asks: 'GPT-3, W_q and W_v, r=1 (Table 4: 4.7M)', figure: lora('gpt3', 1) },
    { name: 'gpt3R4', asks: 'the same, r=4 (not 9.4M: 192 matrices)', figure: lora('gpt3', 4) },
    { name: 'gpt3R8', asks: 'the same, r=8 (Table 4: 37.7M)', figure: lora('gpt3', 8) },
    { name: 'robertaBase', asks: 'RoBERTa-base, r=8 (0.3M)', figure: lora('roberta-base', 8) },
    { name: 'robertaLarge', asks: 'RoBERTa-large, r=8 (0.8M)', figure: lora('roberta-large', 8) },
    { name: 'deberta', asks: 'DeBERTa-XXL, r=16 (4.7M)', figure: lora('deberta-xxl', 16) },
    {
      name: 'adapterHR1',
      asks: 'GPT-3 with AdapterH, r=1 (7.1M)',
      figure: paperBaseline(gpt3, { kind: 'adapter-h', r: 1, layerNorms: false }),
    },
    {
      name: 'adapterHR8',
      asks: 'the same, r=8 (40.1M)',
      figure: paperBaseline(gpt3, { kind: 'adapter-h', r: 8, layerNorms: false }),
    },
    {
      name: 'prefixEmbedding',
      asks: 'GPT-3 with 256 + 8 prefix tokens (3.2M)',
      figure: paperBaseline(gpt3, { kind: 'prefix-embedding', prefixTokens: 256, infixTokens: 8 }),
    },
    { name: 'storageFull', asks: 'bytes of 1,000 checkpoints of 350 GB', figure: storage.full },
    { name: 'storageLora', asks: 'of one base and 1,000 adapters of 35 MB', figure: storage.adapters },
    {
      name: 'storageTimes',
      asks: 'how many times less',
      figure: { value: storage.times, formula: 'N·model / (model + N·adapter)', numbers: '350000/385' },
    },
    {
      name: 'amplification',
      asks: 'amplification factor of Table 7, r=4',
      figure: { value: change / projected, formula: '‖ΔW‖ / ‖UᵀWVᵀ‖', numbers: `${change}/${projected}` },
    },
  ];
}

export const exercises: Topic = {
  name: 'exercises',
  question: 'The exercises with a number',
  compute() {
    const list = exerciseList();
    const text = ({ value }: Figure) => (Number.isInteger(value) ? whole(value) : digits(value));
    return {
      text: ['Each figure is computed by the formula beside it; in brackets stands what the paper prints.'],
      tables: [
        {
          head: ['what', 'is', 'formula', 'with numbers'],
          rows: list.map(({ asks, figure }) => [asks, text(figure), figure.formula, figure.numbers]),
        },
      ],
      figures: Object.fromEntries(list.map(({ name, figure }) => [name, figure.value])),
    } satisfies Answer;
  },
};
