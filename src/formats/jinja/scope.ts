import type { Value } from './values.js';

/** Names and their values; what a scope has not, those around it may have. */
export class Scope {
  private readonly values = new Map<string, Value>();
  constructor(private readonly outer?: Scope) {}

  get(name: string): Value | undefined {
    for (let scope: Scope | undefined = this; scope; scope = scope.outer) {
      const value = scope.values.get(name);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  /** The values of all names, also of those that an inner scope hides. */
  *held(): Generator<Value> {
    for (let scope: Scope | undefined = this; scope; scope = scope.outer) yield* scope.values.values();
  }

  set(name: string, value: Value): void {
    this.values.set(name, value);
  }
}
