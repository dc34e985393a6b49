/** What training did to the weights: two trained adapters beside each other, or one beside random matrices, and each beside W. */
import * as z from 'zod';
import type { ModuleAnalysis } from '../../analysis/module.js';
import { expectedSimilarity } from '../../analysis/subspace.js';
import { analyze, analyzeShape } from '../../api/analyze.js';
import { UserError } from '../../base/errors.js';
import { camelCase } from '../../base/names.js';
import { checkJson } from '../../formats/io/json.js';
import type { RunResult } from '../run.js';
import { type RunKind, seconds } from './kind.js';
import { train, trainRunSchema } from './train.js';

const analysis = {
  modules: analyzeShape.modules,
  directions: analyzeShape.directions,
};
const ownShape = {
  ...analysis,
  against: z
    .record(z.string(), z.unknown())
    .optional()
    .describe('options in which the other adapter differs; without them it is set beside random matrices'),
};
const ownSchema = z.object(ownShape);
/** Over which the adapters were trained. */
const baseSchema = z.object({ model: z.string(), quantize: analyzeShape.quantize });

type Options = Readonly<Record<string, unknown>>;

export const compare: RunKind = {
  options: z.strictObject({ ...trainRunSchema.shape, ...ownShape }) as z.ZodObject,
  metrics: {
    phiFirst: { title: 'φ(1, 1)', digits: 3 },
    phiFirstInAll: { title: 'φ(1, all)', digits: 3 },
    phiAll: { title: 'φ(all, all)', digits: 3 },
    phiFirstRandom: { title: 'random φ(1, all)', digits: 3 },
    ofChange: { title: "W in ΔW's directions", digits: 3 },
    ofWeight: { title: 'W in its own', digits: 3 },
    ofRandom: { title: 'W in random ones', digits: 3 },
    weightNorm: { title: '‖W‖', digits: 2 },
    changeNorm: { title: '‖ΔW‖', digits: 3 },
    amplification: { title: 'amplification', digits: 2 },
    layers: { title: 'layers' },
    seconds,
  },

  needs: (options) => trainingsOf(options),

  async resolve(options, sources) {
    const [first, other] = trainingsOf(options);
    const { modules, directions } = ownSchema.parse(pick(options, Object.keys(ownShape)));
    const one = await train.resolve(first, sources);
    const two = other && (await train.resolve(other, sources));
    return { identity: { modules, directions, of: one.identity, against: two?.identity ?? null }, facts: {} };
  },

  async execute(run, { folderOf, onProgress, signal }) {
    const [first, other] = run.needs.map(folderOf);
    const { modules, directions } = ownSchema.parse(pick(run.options, Object.keys(ownShape)));
    const { model, quantize } = baseSchema.parse(run.options);
    const events = analyze(first, other, {
      model,
      quantize,
      modules,
      directions,
      signal,
    });
    const layers: ModuleAnalysis[] = [];
    for await (const { module, done, of } of events) {
      layers.push(module);
      onProgress({ done, total: of });
    }
    return resultOf(layers);
  },
};

/** The options of the trainings whose results are compared: one, or two. Throws UserError where `against` is none. */
function trainingsOf(options: Options): [Options, Options?] {
  const { against } = ownSchema.parse(pick(options, Object.keys(ownShape)));
  const first = Object.fromEntries(
    Object.entries(options).filter(([name]) => !Object.hasOwn(ownShape, name)),
  );
  if (against === undefined) return [first];
  const given = Object.fromEntries(Object.entries(against).map(([name, value]) => [camelCase(name), value]));
  const differs = checkJson('against', given, trainRunSchema);
  if (Object.keys(differs).length === 0) throw new UserError('against: expected an option that differs');
  return [first, { ...first, ...differs }];
}

function pick(options: Options, names: readonly string[]): Options {
  return Object.fromEntries(Object.entries(options).filter(([name]) => names.includes(name)));
}

/** Means over the layers; of a layer whose change is zero there is nothing to compare. */
function resultOf(layers: readonly ModuleAnalysis[]): RunResult {
  const phi = layers.map(({ similarity }) => similarity.a.phi).filter((table) => table.length > 0);
  const last = <T>(list: readonly T[]) => list[list.length - 1];
  const means = {
    phiFirst: mean(phi.map((table) => table[0][0])),
    phiFirstInAll: mean(phi.map((table) => last(table[0]))),
    phiAll: mean(phi.map((table) => last(last(table)))),
    phiFirstRandom: mean(
      layers.flatMap(({ similarity, in: width }) =>
        similarity.a.phi.length > 0 ? [expectedSimilarity(1, similarity.a.phi[0].length, width)] : [],
      ),
    ),
    ofChange: mean(layers.map(({ relation }) => relation.ofChange)),
    ofWeight: mean(layers.map(({ relation }) => relation.ofWeight)),
    ofRandom: mean(layers.map(({ relation }) => relation.ofRandom)),
    weightNorm: mean(layers.map(({ relation }) => relation.weightNorm)),
    changeNorm: mean(layers.map(({ relation }) => relation.changeNorm)),
    amplification: mean(layers.flatMap(({ relation }) => relation.amplification ?? [])),
    layers: layers.length,
  };
  return {
    metrics: Object.fromEntries(Object.entries(means).filter(([, value]) => Number.isFinite(value))),
    detail: {
      phi: meanTable(phi),
      layers: layers.map(({ name, relation, similarity }) => ({
        name,
        ...relation,
        phiFirst: similarity.a.phi[0]?.[0] ?? null,
      })),
    },
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The tables' mean, over as many rows and columns as all of them have. */
function meanTable(tables: readonly (readonly (readonly number[])[])[]): number[][] {
  if (tables.length === 0) return [];
  const rows = Math.min(...tables.map((table) => table.length));
  const columns = Math.min(...tables.map((table) => table[0].length));
  return Array.from({ length: rows }, (_, i) =>
    Array.from({ length: columns }, (_, j) => mean(tables.map((table) => table[i][j]))),
  );
}
