import type { F32Tensor } from '../../src/base/tensor.js';

/**
 * The slope of `loss` at `values` along `direction`, by central differences over `h` of it each way. `values` are moved
 * in place and are back when it returns.
 */
export async function slopeAlong(
  direction: ReadonlyMap<string, ArrayLike<number>>,
  values: ReadonlyMap<string, F32Tensor>,
  h: number,
  loss: () => Promise<number>,
): Promise<number> {
  const start = new Map([...direction.keys()].map((name) => [name, values.get(name)!.data.slice()]));
  const move = (t: number) => {
    for (const [name, along] of direction) {
      // Read anew each time: a run lends the values' memory to the engine.
      const { data } = values.get(name)!;
      for (const [i, x] of start.get(name)!.entries()) data[i] = x + t * along[i];
    }
  };
  const at = (t: number) => {
    move(t);
    return loss();
  };
  const slope = ((await at(h)) - (await at(-h))) / (2 * h);
  move(0);
  return slope;
}
