import { type F32Tensor, scalarOf } from '../base/tensor.js';
import { compile } from '../graph/emit.js';
import { input, scalar } from '../graph/ops/index.js';
import type { Feeds, Runtime, Session, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import { gradients } from '../graph/vjp.js';
import type { Adapter } from '../methods/adapter.js';

/**
 * The penalty of a method and its gradient. It depends on the method's tensors alone, so it has a graph of its own
 * that runs once a step, however many micro-batches the step has.
 */
export class PenaltyStep {
  private constructor(
    private readonly session: Session,
    private readonly adapter: Adapter,
    private readonly params: readonly string[],
  ) {}

  /** undefined where the method has no penalty. */
  static async create(
    runtime: Runtime,
    adapter: Adapter,
    options: SessionOptions = {},
  ): Promise<PenaltyStep | undefined> {
    const { method, config, trainables } = adapter;
    if (!method.penalty) return undefined;
    const known = new Map(trainables.map((t) => [t.name, t]));
    const params = new Map<string, Tensor>();
    const penalty = method.penalty(config, {
      names: [...known.keys()],
      param: (name) => {
        const param = params.get(name) ?? input(name, 'float32', known.get(name)!.shape);
        params.set(name, param);
        return param;
      },
    });
    const trained = [...params].filter(([name]) => known.get(name)!.requiresGrad !== false);
    const grads = gradients(
      penalty,
      scalar(1),
      trained.map(([, param]) => param),
    );
    const outputs: Record<string, Tensor> = { penalty };
    for (const [i, [name]] of trained.entries()) outputs[`grad.${name}`] = grads[i];
    const session = await runtime.load(compile(outputs, options.device), options);
    return new PenaltyStep(session, adapter, [...params.keys()]);
  }

  /** The penalty at the adapter's values, and its gradient by name. */
  async run(): Promise<{ penalty: number; grads: Map<string, F32Tensor> }> {
    const feeds: Feeds = {};
    for (const name of this.params) feeds[name] = this.adapter.values.get(name)!;
    const { penalty, ...outputs } = await this.session.run(feeds, this.params);
    const grads = Object.entries(outputs).map(
      ([name, value]) => [name.slice('grad.'.length), value as F32Tensor] as const,
    );
    return { penalty: scalarOf(penalty), grads: new Map(grads) };
  }

  close(): Promise<void> {
    return this.session.close();
  }
}
