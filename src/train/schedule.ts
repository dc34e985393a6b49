/** Learning-rate schedules, in transformers' definitions. */
export const schedules = ['linear', 'cosine', 'constant'] as const;
export type ScheduleName = (typeof schedules)[number];

/**
 * Share of the peak learning rate at an update, counted from 0: a linear warm-up from 0 over `warmup` updates, then
 * constant, or down to 0 at `total` along a line or half a cosine.
 */
export function scheduleFactor(name: ScheduleName, step: number, warmup: number, total: number): number {
  if (step < warmup) return step / warmup;
  if (name === 'constant') return 1;
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  return name === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
}
