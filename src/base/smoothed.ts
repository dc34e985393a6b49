/** An exponential mean that is not drawn to its start (debiased, as Adam's moments are). */
export class Smoothed {
  private sum = 0;
  private weight = 0;

  /** `newest` is the weight of each new value, in (0, 1]. */
  constructor(private readonly newest: number) {}

  /** Takes a value in and returns the mean so far. */
  add(value: number): number {
    this.sum += this.newest * (value - this.sum);
    this.weight += this.newest * (1 - this.weight);
    return this.sum / this.weight;
  }
}
