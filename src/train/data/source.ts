import type { Example } from './encode.js';

/** Examples that are read by their number when a batch needs them. An array is one. */
export interface ExampleSource<E = Example> extends Iterable<E> {
  readonly length: number;
  at(index: number): E | undefined;
  /** Tokens of each example, where they are known without reading it. */
  readonly lengths?: ArrayLike<number>;
}
