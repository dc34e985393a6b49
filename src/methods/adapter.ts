import { UserError } from '../base/errors.js';
import { refuseNonFinite } from '../base/finite.js';
import { Rng } from '../base/rng.js';
import { type F32Tensor, f32, sizeOf } from '../base/tensor.js';
import { Turns, type WorkOptions } from '../base/work.js';
import type { TokenizerOf } from '../formats/tokenizer.js';
import { input, scalar, where } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type BaseModel, frozenWeight } from '../models/base.js';
import { freshStart } from '../models/fresh.js';
import { type LinearShape, matrixName, type Site, type Sites } from '../models/model.js';
import { BaseSites } from '../models/shape.js';
import { resized } from './carried.js';
import { type AdapterHead, headOf, trainablesOf } from './head.js';
import { given } from './layerOptions.js';
import type { Method, MethodState, SiteContext, Trainable } from './method.js';
import { isShared, replacedEmbedding, replacedLogits, rowsOf, startOf } from './modelTensors.js';

/** A method applied to a model: its configuration and the values of its tensors. */
export interface Adapter {
  readonly method: Method<unknown>;
  readonly config: unknown;
  readonly trainables: readonly Trainable[];
  /** Values by trainable name. Training replaces their `data`. */
  readonly values: Map<string, F32Tensor>;
  /** Whether it is as its method started it: no step of training has changed it yet. */
  isNew?: boolean;
  /** What the method's onStep keeps. A run starts with an empty one. */
  state: MethodState;
  /** Tokens of its own embedding and head, where these are others than the base's; see carried.ts. */
  readonly vocabSize?: number;
  /** Of a model for a task. */
  readonly head?: AdapterHead;
  /** Its own, where one came with it. */
  readonly tokenizer?: TokenizerOf;
}

export interface StartOptions extends WorkOptions {
  /** Values by trainable name that stand in for the method's own starts. */
  starts?: ReadonlyMap<string, F32Tensor>;
}

/**
 * Starts a method on a model. Equal seeds give equal values. Tells of the sites whose tensors have started. Throws
 * UserError on a config that does not fit.
 */
export async function createAdapter(
  method: Method<unknown>,
  asked: unknown,
  model: BaseModel,
  seed = 0,
  { onProgress, signal, starts }: StartOptions = {},
): Promise<Adapter> {
  const config = method.resolve ? method.resolve(asked, model) : asked;
  const trainables = trainablesOf(method, config, model);
  // A start in weights that are none would be found only once the run's loss is.
  const readBase = async (name: string) => {
    const weights = await model.checkpoint.read(name);
    refuseNonFinite(model.folder, name, weights);
    return weights;
  };
  const values = new Map<string, F32Tensor>();
  const turns = new Turns(signal);
  const left = tensorsBySite(trainables);
  const total = left.size;
  for (const trainable of trainables) {
    const { name, shape, replaces } = trainable;
    const started = starts?.get(name);
    const init = started ? () => started.data : trainable.init;
    const own = replaces?.tensor ?? name;
    const held = init ? undefined : model.quantized.get(own);
    if (held) {
      throw new UserError(
        `method ${method.name} trains ${name} itself, which this base holds in ${held.format}; train an adapter such as lora, or leave --quantize out`,
      );
    }
    const rng = new Rng(seed, `init ${name}`);
    const start = async () =>
      model.fresh.has(own) ? freshStart(own, shape, rng) : startOf(trainable, await readBase(own));
    const data = init ? await init(rng, readBase, model.original) : await start();
    refuseNonFinite(`the start of method ${method.name}`, name, data);
    values.set(name, f32(data, shape));
    if (countDown(left, trainable.at?.site)) {
      onProgress?.({ what: method.card.title, done: total - left.size, total, unit: 'matrices' });
    }
    await turns.take();
  }
  const state = emptyState();
  return { method, config, trainables, values, isNew: true, state, ...given('head', headOf(model)) };
}

/**
 * The adapter as it is now: what changes its values later does not reach the copy. Throws UserError where the values are
 * not here: lent to the engine at this moment, or gone with an engine that stopped.
 */
export function copyOf(adapter: Adapter): Adapter {
  const { tensors, values } = adapter.state;
  return {
    ...adapter,
    values: copiesOf(adapter.values),
    state: { tensors: copiesOf(tensors), values: structuredClone(values) },
  };
}

function copiesOf(tensors: ReadonlyMap<string, F32Tensor>): Map<string, F32Tensor> {
  return new Map([...tensors].map(([name, t]) => [name, f32(present(name, t).data.slice(), t.dims)]));
}

/** A tensor whose data is here. Throws UserError, as copyOf. */
export function present(name: string, tensor: F32Tensor): F32Tensor {
  if (tensor.data.length === sizeOf(tensor.dims)) return tensor;
  throw new UserError(
    `the values of ${name} are in the engine: a step of training is under way, or the engine stopped in the middle of one and ` +
      'they are lost; then load the adapter again',
  );
}

/** The state of a method before its first step. */
export function emptyState(): MethodState {
  return { tensors: new Map(), values: {} };
}

/** Graph input, float32 [tokens, 1]: 1 where an adapter that tokens call takes part (invocation.ts). */
export const ACTIVE = 'activeTokens';

/** What an adapted graph is made with. */
export interface AdaptedSites {
  sites: Sites;
  /** The graph input of each of the method's tensors that the graph uses so far. */
  params: Map<string, Tensor>;
  /** The probability of each dropout mask that the graph takes, by input name; bool [tokens, width], true keeps. */
  dropout: Map<string, number>;
}

/**
 * The sites of a model with an adapter on it (or without): trainable tensors become graph inputs, all else
 * stays frozen and mapped from disk.
 */
export function adaptedSites(
  model: BaseModel,
  adapter: Adapter | undefined,
  training: boolean,
): AdaptedSites {
  const params = new Map<string, Tensor>();
  const dropout = new Map<string, number>();
  const trainable = new Map(adapter?.trainables.map((t) => [t.name, t]));
  const param = (name: string): Tensor => {
    const known = params.get(name) ?? input(name, 'float32', trainable.get(name)!.shape);
    params.set(name, known);
    return known;
  };
  // A tied head asks for its embedding's matrix, which it sees trained only where both share it.
  const parameter = (name: string, _shape?: readonly number[], own = name) => {
    if (trainable.has(own)) return param(own);
    if (!trainable.has(name)) return frozenWeight(model, name);
    return isShared(trainable.get(name)!) ? param(name) : frozenWeight(model, name, `${name}.base`);
  };
  const base = new BaseSites(parameter);
  if (!adapter) return { sites: base, params, dropout };

  const { method, config } = adapter;
  const targets = targetSites(adapter, model);
  // Two inputs of one layer have a mask each.
  const dropping = new Map<string, Tensor>();
  const maskOf = (mask: string, x: Tensor): string => {
    const other = dropping.get(mask);
    if (other && other !== x) return maskOf(`${mask}.again`, x);
    dropping.set(mask, x);
    return mask;
  };
  const adapt = (name: string, x: Tensor, y: Tensor): Tensor => {
    const site = targets.get(name);
    if (!site || !method.linear) return y;
    const dropped = (probability: number) => {
      if (!training || probability === 0) return { x, scale: 1 };
      if (site.expert !== undefined) {
        throw new UserError(
          `dropout is not for experts, in PEFT as little as here, and ${name} is in one; set it to 0, or name other targets`,
        );
      }
      const mask = maskOf(`${name}.dropout`, x);
      dropout.set(mask, probability);
      return { x: where(input(mask, 'bool', x.shape), x, scalar(0)), scale: 1 / (1 - probability) };
    };
    const context: SiteContext = {
      site,
      x,
      param: (part) => param(`${name}.${part}`),
      shared: param,
      weight: () => parameter(matrixName(site), undefined, `${name}.weight`),
      active: () => input(ACTIVE, 'float32', [x.shape[0], 1]),
      bias: () => (site.bias ? parameter(`${name}.bias`) : undefined),
      dropped,
    };
    return method.linear(config, context, y);
  };
  const { vocabSize } = adapter;
  const withRows = adapter.trainables.filter(({ replaces }) => replaces?.rows !== undefined);
  const head = (name: string, x: Tensor, y: Tensor, { out }: LinearShape, tiedTo?: string): Tensor => {
    const replaced = rowsOf(withRows, name, tiedTo);
    return replaced ? replacedLogits(y, x, param(replaced.name), replaced.rows, vocabSize ?? out) : y;
  };
  const embed = (name: string, ids: Tensor, y: Tensor, vocab: number): Tensor => {
    const site = targets.get(name);
    if (site && method.embedding) {
      const weight = () => parameter(`${name}.weight`);
      const context = { site, ids, param: (part: string) => param(`${name}.${part}`), shared: param, weight };
      return method.embedding(config, context, y);
    }
    const replaced = rowsOf(withRows, name);
    return replaced ? replacedEmbedding(y, ids, param(replaced.name), replaced.rows, vocab) : y;
  };
  const sites: Sites = {
    linear: (name, x, shape) => head(name, x, adapt(name, x, base.linear(name, x, shape)), shape),
    tiedLinear: (name, tiedTo, x, shape) =>
      head(name, x, adapt(name, x, base.tiedLinear(name, tiedTo, x, shape)), shape, tiedTo),
    embedding: (name, ids, shape) =>
      embed(name, ids, base.embedding(name, ids, shape), vocabSize ?? shape.in),
    param: (name, shape) => base.param(name, shape),
  };
  return { sites, params, dropout };
}

/** Names of the sites that tensors were added to. */
export function sitesOf(trainables: readonly Trainable[]): Set<string> {
  return new Set(tensorsBySite(trainables).keys());
}

/** How many tensors were added to each site. */
function tensorsBySite(trainables: readonly Trainable[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { at } of trainables) {
    if (at) counts.set(at.site, (counts.get(at.site) ?? 0) + 1);
  }
  return counts;
}

/** Takes one from a count. Returns whether it was the last, which takes the key away. */
function countDown(counts: Map<string, number>, key: string | undefined): boolean {
  if (key === undefined) return false;
  const left = counts.get(key)! - 1;
  if (left > 0) counts.set(key, left);
  else counts.delete(key);
  return left === 0;
}

/** The sites that an adapter adds tensors to. */
export function targetSites(adapter: Adapter, model: BaseModel): Map<string, Site> {
  const names = sitesOf(adapter.trainables);
  const { sites } = resized(model, adapter.vocabSize);
  return new Map(sites.filter((s) => names.has(s.name)).map((s) => [s.name, s]));
}
