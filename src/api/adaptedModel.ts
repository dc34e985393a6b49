/** Adapters on a model by name, and which of them it computes with. */
import { UserError } from '../base/errors.js';
import type { Adapter } from '../methods/adapter.js';
import type { CombineInput } from '../methods/combine.js';
import { parameterCounts } from '../methods/counts.js';
import type { BaseModel } from '../models/base.js';
import { checkArguments } from './arguments.js';
import { Calls } from './calls.js';
import type { AdapterOptions } from './modelOptions.js';
import { DEFAULT_NAME, NamedAdapters } from './namedAdapters.js';

/** The part of a model that is about its adapters. */
export abstract class AdaptedModel {
  protected readonly calls = new Calls();
  protected adapters: NamedAdapters;
  protected merged = false;

  protected constructor(protected current: BaseModel) {
    this.adapters = new NamedAdapters(current);
  }

  /** The pre-trained model, on disk. */
  get base(): BaseModel {
    return this.current;
  }

  /** What the model computes with: the active adapter, the sum of several; undefined for the base alone. */
  get adapter(): Adapter | undefined {
    return this.adapters.current;
  }

  /** The names of all adapters, in their order. */
  get adapterNames(): string[] {
    return this.adapters.names;
  }

  /** The names of those that are active, unless they are disabled. */
  get activeAdapters(): string[] {
    return this.adapters.active;
  }

  /** Parameters of the whole model, and those that train. */
  get parameters(): { total: number; trainable: number } {
    return parameterCounts(this.base, this.adapter?.trainables);
  }

  /**
   * A new adapter out of several, each with its weight (default: 1), as PEFT's add_weighted_adapter, and the active one.
   * Throws UserError where one is more than LoRA, or where they do not fit each other.
   */
  addWeightedAdapter(
    names: readonly string[],
    given: AdapterOptions & { weights?: readonly number[] } & CombineInput = {},
  ): Adapter {
    this.calls.check();
    checkArguments('addWeightedAdapter', [names, given]);
    const { weights, name, ...options } = given;
    return this.use(this.adapters.combine(names, weights, options), name);
  }

  /**
   * Chooses the active adapter, or several whose changes add up (LoRA and its kin), and enables them. Throws UserError on
   * an unknown name, listing those there are, and where adapters of these methods do not add up.
   */
  setAdapter(names: string | readonly string[]): void {
    this.calls.check();
    checkArguments('setAdapter', [names]);
    this.adapters.activate(typeof names === 'string' ? [names] : names);
    this.merged = false;
  }

  /** The base computes again exactly what it did before; the adapters stay. */
  disableAdapters(): void {
    this.calls.check();
    this.adapters.setDisabled(true);
    this.merged = false;
  }

  /** Undoes disableAdapters. */
  enableAdapters(): void {
    this.calls.check();
    this.adapters.setDisabled(false);
  }

  /** Removes an adapter. Without another active one the base is left alone. Throws UserError on an unknown name. */
  deleteAdapter(name: string): void {
    this.calls.check();
    checkArguments('deleteAdapter', [name]);
    this.adapters.delete(name);
    this.merged = false;
  }

  /**
   * Merges what is active for generation: W₀ + (α/r)·BA is computed once, so a token costs what the base's costs. The
   * base's weights themselves are not touched, and evaluation and training see the adapter apart.
   */
  merge(): void {
    this.calls.check();
    if (!this.adapter) throw new UserError('there is no active adapter to merge');
    this.merged = true;
  }

  /** Undoes merge. */
  unmerge(): void {
    this.calls.check();
    this.merged = false;
  }

  /** Adds an adapter and makes it the active one. */
  protected use(adapter: Adapter, name = DEFAULT_NAME): Adapter {
    this.adapters.add(name, adapter);
    this.merged = false;
    return adapter;
  }
}
