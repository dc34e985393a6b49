/** A model with an adapter merged in as the graph of an ONNX file. */
import { mulDims } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { countNonFinite, nonFiniteText } from '../base/finite.js';
import { sizeOf } from '../base/tensor.js';
import { encodeF32 } from '../formats/float16.js';
import type { MatrixShape, Quantized } from '../formats/quant/index.js';
import { quantizeRows } from '../formats/quant/rows8.js';
import type { OnnxDType } from '../formats/transformersJs.js';
import { compile } from '../graph/emit.js';
import {
  cast,
  convert,
  dequantizeRows,
  dimension,
  div,
  gather,
  input,
  lastRows,
  matmul,
  mul,
  range,
  reshape,
  sum,
  weight,
} from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { LanguageModel, Network } from '../models/architecture.js';
import type { TaskHead } from '../models/blocks/taskHead.js';
import { decoderStream, encoderStream } from '../models/exportStream.js';
import { matrixName, type Site, type Sites } from '../models/model.js';
import { BaseSites } from '../models/shape.js';
import type { MergedTensor } from './merge.js';

/** How many of the last tokens' logits are wanted; 0: all. transformers.js feeds it where a model has it. */
const LOGITS_TO_KEEP = 'num_logits_to_keep';

/** A graph, and its weights, which it knows by name. */
export interface OnnxGraph {
  bytes: Uint8Array;
  /** How many. */
  weights: number;
  read(name: string): Promise<Uint8Array>;
}

/**
 * The graph of a decoder: logits, and present.N.key and .value of each layer; of an encoder: last_hidden_state,
 * or the logits of its task's head. Its inputs are those
 * of models/exportStream.ts. `sites` are the model's, `tensors` all that it computes with.
 */
export function onnxGraph(
  network: Network,
  sites: readonly Site[],
  tensors: readonly MergedTensor[],
  dtype: OnnxDType,
): OnnxGraph {
  // The positions of a stream are rows of one kind of table.
  if (network.stream.ropes.length > 0 && sites.some(({ role }) => role === 'positions'))
    throw new Error(`${network.config.modelType} has learned positions beside rotary ones`);
  const weights = new Weights(tensors, dtype, sites);
  const own = new BaseSites((name, _, head) => weights.tensor(head, name));
  const outputs = isDecoder(network) ? decoderOutputs(network, own) : encoderOutputs(network, own);
  const { bytes } = compile(outputs, 'any');
  return { bytes, weights: weights.count, read: (name) => weights.read(name) };
}

export function isDecoder(network: Network): network is LanguageModel {
  return network.lmHead !== undefined && network.cache !== null;
}

function encoderOutputs(network: Network, sites: Sites): Record<string, Tensor> {
  const { head } = network;
  const { stream, real } = encoderStream(network);
  const { shape } = stream.ids;
  const hidden = network.forward(sites, stream);
  const wide = reshape(hidden, [...shape, network.config.hiddenSize]);
  if (!head) return { last_hidden_state: wide };
  if (head.reads !== 'each') return { logits: head.logits(sites, pooled(head.reads, wide, real)) };
  const logits = head.logits(sites, hidden);
  return { logits: reshape(logits, [...shape, logits.shape[1]]) };
}

/** A vector for each row of hidden states, [batch, seq, hidden] to [batch, hidden]. */
function pooled(reads: TaskHead['reads'], hidden: Tensor, real: Tensor): Tensor {
  const [batch, seq, width] = hidden.shape;
  if (reads === 'first') {
    const first = convert(mul(range(batch), dimension(seq)), 'int64');
    return gather(reshape(hidden, [mulDims(batch, seq), width]), first);
  }
  const shares = div(real, sum(real, 1, true));
  return reshape(matmul(reshape(shares, [batch, 1, seq]), hidden), [batch, width]);
}

function decoderOutputs(network: LanguageModel, sites: Sites): Record<string, Tensor> {
  const { stream, present } = decoderStream(network);
  const [batch, seq] = stream.ids.shape;
  const { hiddenSize } = network.config;
  const hidden = reshape(network.forward(sites, stream), [batch, seq, hiddenSize]);
  const kept = 'kept_length';
  const last = lastRows(hidden, input(LOGITS_TO_KEEP, 'int64', []), kept);
  const logits = network.lmHead(sites, reshape(last, [mulDims(batch, kept), hiddenSize]));
  const outputs: Record<string, Tensor> = { logits: reshape(logits, [batch, kept, logits.shape[1]]) };
  present.forEach(({ k, v }, layer) => {
    outputs[`present.${layer}.key`] = k;
    outputs[`present.${layer}.value`] = v;
  });
  return outputs;
}

/** The weights of a graph: float32, or with its matrices in half precision or in blocks of 8 bits. */
class Weights {
  private readonly byName: ReadonlyMap<string, MergedTensor>;
  /** Matrices that products and look-ups of words are with. */
  private readonly matrices: ReadonlySet<string>;
  /** Those of words, whose rows are looked up. */
  private readonly lookedUp: ReadonlySet<string>;
  private readonly readers = new Map<string, () => Promise<Uint8Array>>();

  constructor(
    tensors: readonly MergedTensor[],
    private readonly dtype: OnnxDType,
    sites: readonly Site[],
  ) {
    this.byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    // A task's head is small, and what all comes to.
    const chosen = sites.filter(
      ({ kind, role }) => role === 'embedding' || (kind === 'linear' && role !== 'task'),
    );
    this.lookedUp = new Set(
      chosen.filter(({ kind }) => kind === 'embedding').map(({ name }) => `${name}.weight`),
    );
    this.matrices = new Set(chosen.flatMap((site) => [matrixName(site), `${site.name}.weight`]));
  }

  /** The first that is there of a tensor's names, as the graph has it. */
  tensor(...names: readonly (string | undefined)[]): Tensor {
    const name = names.find((found) => found !== undefined && this.byName.has(found))!;
    const tensor = this.byName.get(name)!;
    const { shape } = tensor;
    if (this.matrices.has(name) && this.dtype === 'q8') return this.quantized(tensor);
    const stored = this.dtype === 'fp16' && shape.length > 1 ? 'float16' : 'float32';
    this.readers.set(name, async () => encodeF32(await finite(tensor), stored));
    const leaf = external(name, stored, shape);
    return stored === 'float32' ? leaf : cast(leaf, false);
  }

  get count(): number {
    return this.readers.size;
  }

  /** The bytes of a weight of the graph. Throws UserError where a value is not finite. */
  read(name: string): Promise<Uint8Array> {
    return this.readers.get(name)!();
  }

  private quantized(tensor: MergedTensor): Tensor {
    const { name } = tensor;
    const shape: MatrixShape = [tensor.shape[0], tensor.shape[1]];
    const turned = !this.lookedUp.has(name);
    // Its scales are asked for right after its codes.
    let latest: Quantized | undefined;
    const made = async () => {
      latest ??= quantizeRows(await finite(tensor), shape, { turned });
      return latest;
    };
    this.readers.set(`${name}.codes`, async () => (await made()).codes);
    this.readers.set(`${name}.scales`, async () => {
      const { scales } = await made();
      latest = undefined;
      return encodeF32(scales, 'float32');
    });
    const codes = external(`${name}.codes`, 'uint8', turned ? [shape[1], shape[0]] : shape);
    return dequantizeRows(codes, external(`${name}.scales`, 'float32', [shape[0]]), { turned });
  }
}

/** A weight that the file's writer gives its place. */
function external(name: string, stored: 'float32' | 'float16' | 'uint8', shape: readonly number[]): Tensor {
  return weight({ name, stored, shape, file: '', offset: 0, length: sizeOf(shape) });
}

async function finite({ name, values }: MergedTensor): Promise<Float32Array> {
  const found = await values();
  const count = countNonFinite(found);
  if (count === 0) return found;
  throw new UserError(
    `the model cannot be exported: tensor "${name}": ${nonFiniteText(count, found.length)}`,
  );
}
