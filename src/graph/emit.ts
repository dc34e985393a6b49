import { create, toBinary } from '@bufbuild/protobuf';
import { type Dim, factorsOf, type Shape, termsOf } from '../base/dims.js';
import type { DType, HostTensor, WeightDType } from '../base/tensor.js';
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from '../formats/onnx/onnx-ml_pb.js';
import type { EmitContext, NodeOptions, OnnxAttrs, Target } from './op.js';
import { opOf, type WeightAttrs } from './ops/index.js';
import { rewrite, validate } from './rewrite.js';
import { joinSiblings } from './siblings.js';
import { type Node, reachable, type Tensor, type TensorType } from './tensor.js';

const OPSET = 17n;
const IR_VERSION = 8n;

const ONNX_TYPE: Record<DType | WeightDType, TensorProto_DataType> = {
  float32: TensorProto_DataType.FLOAT,
  float64: TensorProto_DataType.DOUBLE,
  float16: TensorProto_DataType.FLOAT16,
  bfloat16: TensorProto_DataType.BFLOAT16,
  int32: TensorProto_DataType.INT32,
  int64: TensorProto_DataType.INT64,
  bool: TensorProto_DataType.BOOL,
  uint8: TensorProto_DataType.UINT8,
};

/** A graph compiled for the engine. */
export interface CompiledGraph {
  /** ONNX model bytes; frozen weights are references into files of the model folder. */
  readonly bytes: Uint8Array;
  readonly inputs: readonly { name: string; dtype: DType; shape: Shape }[];
  readonly outputs: readonly string[];
  readonly nodeCount: number;
}

/** Compiles named outputs to one ONNX model: join, rewrite, validate, emit. */
export function compile(outputs: Record<string, Tensor>, device: Target = 'cpu'): CompiledGraph {
  const names = Object.keys(outputs);
  const { roots, nodes } = arranged(Object.values(outputs));
  validate(roots);
  const emitter = new Emitter(device);
  for (const node of nodes) emitter.add(node);
  const lastFirst = roots.map((t, i) => ({ t, name: names[i] })).sort((a, b) => b.t.node.id - a.t.node.id);
  for (const { name, t } of lastFirst) emitter.output(name, t);
  return emitter.finish();
}

/** Outputs joined and rewritten, and all nodes behind them in the order in which the engine is given them. */
export function arranged(outputs: readonly Tensor[]): { roots: Tensor[]; nodes: Node[] } {
  const roots = rewrite(joinSiblings(outputs));
  return { roots, nodes: engineOrder(reachable(roots)) };
}

/**
 * Nodes in an order that makes the engine run results early. It computes backwards from the nodes that no other uses,
 * the one that it was given last first. In the order of building that would be the first layer's gradients, and behind
 * them every other product of a gradient with an activation, all of which would wait for it in memory.
 */
function engineOrder(nodes: readonly Node[]): Node[] {
  const used = new Set(nodes.flatMap((n) => n.inputs.map((t) => t.node)));
  return [...nodes.filter((n) => used.has(n)), ...nodes.filter((n) => !used.has(n)).reverse()];
}

class Emitter implements EmitContext {
  private readonly model: ModelProto;
  private readonly values = new Map<Tensor, string>();
  private readonly inputs: { name: string; dtype: DType; shape: Shape }[] = [];
  private readonly outputs: string[] = [];
  private readonly constants = new Map<string, string>();
  private readonly shapes = new Map<string, string>();
  /** Values that tell sizes that no input has, by the name of the size. */
  private readonly tellers = new Map<string, { name: string; axis: number }>();
  private count = 0;
  /** Where nodes go: the graph's, or those of a loop's body. */
  private nodes: NodeProto[];

  constructor(readonly device: Target) {
    this.model = create(ModelProtoSchema, {
      irVersion: IR_VERSION,
      producerName: 'lowrank',
      opsetImport: [
        { domain: '', version: OPSET },
        { domain: 'com.microsoft', version: 1n },
      ],
      graph: { name: 'lowrank' },
    });
    this.nodes = this.graph.node;
  }

  private get graph() {
    return this.model.graph!;
  }

  add(node: Tensor['node']): void {
    switch (node.op) {
      case 'input': {
        const attrs = node.attrs as { name: string; dtype: DType; shape: Shape };
        this.inputs.push(attrs);
        this.graph.input.push(valueInfo(attrs.name, attrs.dtype, attrs.shape));
        this.values.set(node.outputs[0], attrs.name);
        return;
      }
      case 'weight':
        this.values.set(node.outputs[0], this.weight(node.attrs as WeightAttrs));
        return;
      case 'constant':
        this.values.set(node.outputs[0], this.constant((node.attrs as { value: HostTensor }).value));
        return;
      default: {
        const inputs = node.inputs.map((t) => this.nameOf(t));
        const names = opOf(node.op).emit(this, inputs, node.attrs, node);
        node.outputs.forEach((t, i) => {
          if (names[i] === undefined) return;
          this.values.set(t, names[i]);
          this.learn(names[i], t, node.inputs);
          this.graph.valueInfo.push(valueInfo(names[i], t.dtype, t.shape));
        });
      }
    }
  }

  output(name: string, t: Tensor): void {
    this.pushNode('Identity', [this.nameOf(t)], [name], {});
    this.graph.output.push(valueInfo(name, t.dtype, t.shape));
    this.outputs.push(name);
  }

  finish(): CompiledGraph {
    return {
      bytes: toBinary(ModelProtoSchema, this.model),
      inputs: this.inputs,
      outputs: this.outputs,
      nodeCount: this.graph.node.length,
    };
  }

  node(
    opType: string,
    inputs: readonly string[],
    attrs: OnnxAttrs = {},
    options: NodeOptions = {},
  ): string[] {
    const outputs = Array.from({ length: options.outputs ?? 1 }, () => this.fresh());
    this.pushNode(opType, inputs, outputs, attrs, options.domain);
    return outputs;
  }

  constant(value: HostTensor): string {
    const key = value.data.length <= 64 ? `${value.dtype} ${value.dims} ${value.data.join()}` : undefined;
    const known = key && this.constants.get(key);
    if (known) return known;
    const name = this.fresh();
    const bytes = new Uint8Array(value.data.buffer, value.data.byteOffset, value.data.byteLength);
    this.initializer(name, value.dtype, value.dims, { rawData: bytes.slice() });
    if (key) this.constants.set(key, name);
    return name;
  }

  shapeVector(shape: Shape, oneUnknown = false): string {
    const symbolic = shape.filter((d) => typeof d === 'string').length;
    if (symbolic === 0 || (oneUnknown && symbolic === 1)) {
      return this.int64(shape.map((d) => (typeof d === 'number' ? d : -1)));
    }
    const told = oneUnknown ? shape.map((d) => (this.isTold(d) ? d : -1)) : shape;
    const key = told.join(',');
    const known = this.shapes.get(key);
    if (known) return known;
    const parts = told.map((d) => this.dimension(d));
    const name = this.node('Concat', parts, { axis: 0 })[0];
    this.shapes.set(key, name);
    return name;
  }

  /** One dimension as an int64 [1]: read off the shape of an input that has it. */
  private dimension(d: Dim): string {
    if (typeof d === 'number') return this.int64([d]);
    const known = this.shapes.get(d);
    if (known) return known;
    const { factor, names } = factorsOf(d);
    let name: string | undefined = factor === 1 ? undefined : this.int64([factor]);
    for (const atom of names) {
      const piece = names.length === 1 && factor === 1 ? this.inputSize(atom) : this.dimension(atom);
      name = name === undefined ? piece : this.node('Mul', [name, piece])[0];
    }
    this.shapes.set(d, name!);
    return name!;
  }

  /** Whether the inputs tell a size. */
  private isTold(d: Dim): boolean {
    return factorsOf(d).names.every((atom) => this.inputs.some(({ shape }) => shape.includes(atom)));
  }

  /** Notes which sizes a result is the first to have. */
  private learn(name: string, { shape }: TensorType, inputs: readonly TensorType[]): void {
    for (const [axis, dim] of shape.entries()) {
      if (typeof dim !== 'string' || this.tellers.has(dim)) continue;
      if (!inputs.some((input) => input.shape.includes(dim))) this.tellers.set(dim, { name, axis });
    }
  }

  private inputSize(atom: string): string {
    const sizeOf = (name: string, axis: number) =>
      this.node('Shape', [name], { start: axis, end: axis + 1 })[0];
    for (const { name, shape } of this.inputs) {
      const axis = shape.indexOf(atom);
      if (axis >= 0) return sizeOf(name, axis);
    }
    const teller = this.tellers.get(atom);
    if (teller) return sizeOf(teller.name, teller.axis);
    const terms = termsOf(atom);
    if (!terms) throw new Error(`no input tells the size "${atom}"`);
    return this.node(
      'Add',
      terms.map((term) => this.dimension(term)),
    )[0];
  }

  private weight(w: WeightAttrs): string {
    this.initializer(w.name, w.stored, w.shape, {
      dataLocation: TensorProto_DataLocation.EXTERNAL,
      externalData: [
        { key: 'location', value: w.file },
        { key: 'offset', value: String(w.offset) },
        { key: 'length', value: String(w.length) },
      ],
    });
    return w.name;
  }

  int64(values: readonly number[]): string {
    return this.constant({ dtype: 'int64', dims: [values.length], data: BigInt64Array.from(values, BigInt) });
  }

  int64Scalar(value: number): string {
    return this.constant({ dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(value)) });
  }

  opaqueOne(signal = ''): string {
    const key = `one ${signal}`;
    const known = this.shapes.get(key);
    if (known) return known;
    const size = this.inputs.flatMap(({ shape }) => shape.filter((d) => typeof d === 'string'))[0];
    if (size === undefined) return this.int64([1]);
    const name = signal ? this.node('Shape', [signal], { start: 0, end: 1 })[0] : this.dimension(size);
    // An expert may have no rows at all.
    const some = signal ? this.node('Max', [name, this.int64([1])])[0] : name;
    const one = this.node('Div', [some, some])[0];
    this.shapes.set(key, one);
    return one;
  }

  loop(turns: string, results: readonly TensorType[], body: (turn: string) => string[]): string[] {
    const [turn, before, after] = [this.fresh(), this.fresh(), this.fresh()];
    const outer = this.nodes;
    this.nodes = [];
    const values = body(turn);
    this.pushNode('Identity', [before], [after], {});
    const inner = create(GraphProtoSchema, {
      name: 'turn',
      node: this.nodes,
      input: [valueInfo(turn, 'int64', []), valueInfo(before, 'bool', [])],
      // Sizes of a turn are not those of the whole.
      output: [valueInfo(after, 'bool', []), ...values.map((v, i) => valueInfo(v, results[i].dtype))],
    });
    this.nodes = outer;
    const names = values.map(() => this.fresh());
    this.pushNode('Loop', [turns, ''], names, { body: inner });
    return names;
  }

  cast(x: string, to: DType): string {
    return this.node('Cast', [x], { to: ONNX_TYPE[to] })[0];
  }

  scalar(value: number): string {
    return this.constant({ dtype: 'float32', dims: [], data: Float32Array.of(value) });
  }

  private initializer(
    name: string,
    dtype: DType | WeightDType,
    dims: readonly number[],
    data: Partial<Pick<TensorProto, 'rawData' | 'dataLocation'>> & {
      externalData?: { key: string; value: string }[];
    },
  ): void {
    this.graph.initializer.push(
      create(TensorProtoSchema, { name, dataType: ONNX_TYPE[dtype], dims: dims.map(BigInt), ...data }),
    );
  }

  private pushNode(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attrs: OnnxAttrs | { body: GraphProto },
    domain = '',
  ): void {
    const node: NodeProto = create(NodeProtoSchema, {
      opType,
      domain,
      input: [...inputs],
      output: [...outputs],
      attribute: Object.entries(attrs).map(([name, value]) => attribute(name, value)),
    });
    this.nodes.push(node);
  }

  private nameOf(t: Tensor): string {
    return this.values.get(t)!;
  }

  private fresh(): string {
    return `v${++this.count}`;
  }
}

function attribute(name: string, value: OnnxAttrs[string] | GraphProto): AttributeProto {
  if (typeof value === 'string') {
    const s = new TextEncoder().encode(value);
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.STRING, s });
  }
  if (typeof value === 'number') {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) });
  }
  if ('node' in value) {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.GRAPH, g: value });
  }
  if ('float' in value) {
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.FLOAT, f: value.float });
  }
  return create(AttributeProtoSchema, {
    name,
    type: AttributeProto_AttributeType.INTS,
    ints: value.map(BigInt),
  });
}

/** Without a shape: of any. */
function valueInfo(name: string, dtype: DType | WeightDType, shape?: Shape): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: {
          elemType: ONNX_TYPE[dtype],
          shape: shape && {
            dim: shape.map((d) => ({
              value:
                typeof d === 'number'
                  ? { case: 'dimValue' as const, value: BigInt(d) }
                  : { case: 'dimParam' as const, value: d },
            })),
          },
        },
      },
    },
  });
}
