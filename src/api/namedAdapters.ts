import { nearest, UserError } from '../base/errors.js';
import { countedText } from '../base/text.js';
import type { AdapterFiles } from '../formats/peft.js';
import { type Adapter, present } from '../methods/adapter.js';
import { type CombineInput, combineAdapters, parseCombineOptions } from '../methods/combine.js';
import { fromFiles, toFiles } from '../methods/files.js';
import { lora } from '../methods/lora.js';
import type { BaseModel } from '../models/base.js';

/** The name of an adapter that was given none. */
export const DEFAULT_NAME = 'default';

/** The adapters of one model by name, and which of them are active. */
export class NamedAdapters {
  private readonly all = new Map<string, Adapter>();
  private chosen: readonly string[] = [];
  private sum: Adapter | undefined;
  private disabled = false;

  constructor(private readonly base: BaseModel) {}

  get names(): string[] {
    return [...this.all.keys()];
  }

  get active(): string[] {
    return [...this.chosen];
  }

  /** What the model computes with: the active adapter, the sum of several, or undefined for the base alone. */
  get current(): Adapter | undefined {
    return this.disabled ? undefined : this.sum;
  }

  /** Adds an adapter, in place of one of that name, and makes it the only active one. */
  add(name: string, adapter: Adapter): void {
    if (name === '') throw new UserError('an adapter needs a name');
    this.all.set(name, adapter);
    this.activate([name]);
  }

  /** The adapter of that name. Throws UserError that lists those there are. */
  get(name: string): Adapter {
    const found = this.all.get(name);
    if (found) return found;
    const guess = nearest(name, this.all.keys());
    throw new UserError(
      this.all.size === 0
        ? `there is no adapter "${name}": the model has none`
        : `there is no adapter "${name}"${guess ? `, did you mean "${guess}"?` : ''}; there are ${this.names.join(', ')}`,
    );
  }

  /** Makes these the active ones; what several change adds up. Throws UserError where it cannot. */
  activate(names: readonly string[]): void {
    const adapters = names.map((name) => this.get(name));
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw new UserError(`adapter "${twice}" is named twice`);
    if (names.length === 0) throw new UserError('which adapter? disableAdapters leaves the base alone');
    this.sum = adapters.length === 1 ? adapters[0] : this.combine(names, undefined, { combination: 'cat' });
    this.chosen = [...names];
    this.disabled = false;
  }

  /** Removes an adapter. Active ones beside it stay active; without one the base is left. */
  delete(name: string): void {
    this.get(name);
    this.all.delete(name);
    if (!this.chosen.includes(name)) return;
    const left = this.chosen.filter((other) => other !== name);
    const { disabled } = this;
    if (left.length > 0) this.activate(left);
    else [this.chosen, this.sum] = [[], undefined];
    this.disabled = disabled;
  }

  setDisabled(disabled: boolean): void {
    this.disabled = disabled;
  }

  /**
   * The one active adapter, for what takes exactly one. Throws UserError that says what to do where there is none or
   * are several; `purpose` begins the sentence: "training".
   */
  single(purpose: string): Adapter {
    if (this.chosen.length > 1) {
      throw new UserError(
        `${purpose} takes one adapter, and ${this.chosen.join(', ')} are active: choose one with setAdapter`,
      );
    }
    if (this.disabled && this.sum)
      throw new UserError(`${purpose}: the adapters are disabled, call enableAdapters`);
    if (this.sum) return this.sum;
    throw new UserError(
      this.all.size === 0
        ? 'the model has no adapter: call addLora or loadAdapter first'
        : `no adapter is active: choose one of ${this.names.join(', ')} with setAdapter`,
    );
  }

  /**
   * A new adapter out of several, each with its weight (default: 1). Throws UserError where one is more than LoRA, or
   * where they do not fit each other.
   */
  combine(names: readonly string[], weights: readonly number[] | undefined, options: CombineInput): Adapter {
    if (weights && weights.length !== names.length) {
      throw new UserError(
        `there are ${countedText(names.length, 'adapter')} and ${countedText(weights.length, 'weight')}`,
      );
    }
    const parts = names.map((name, i) => ({
      name: `adapter "${name}"`,
      adapter: this.filesOf(name),
      weight: weights?.[i] ?? 1,
    }));
    const combined = combineAdapters(parts, parseCombineOptions('combination options', options));
    const tokenizer = names.map((name) => this.get(name).tokenizer).find((own) => own !== undefined);
    return { ...fromFiles('the combination', combined, this.base), ...(tokenizer && { tokenizer }) };
  }

  private filesOf(name: string): AdapterFiles {
    const adapter = this.get(name);
    if (adapter.method.linear !== lora.linear) {
      throw new UserError(
        `adapter "${name}" is of method ${adapter.method.name}: only LoRA adapters add up or combine; choose it alone`,
      );
    }
    for (const [tensor, value] of adapter.values) present(tensor, value);
    return toFiles(adapter);
  }
}
