/** What is told of runs before they are done: how long they may take, by those that are. */
import type { PlannedRun } from './run.js';
import type { StoredRun } from './store.js';

type Done = StoredRun & { status: 'done' };

/**
 * Seconds that a run may take: its steps times what a step took in the runs that are most like it, those that share most
 * labels other than the seed's. Undefined where none of its kind was done.
 */
export function secondsOf(run: PlannedRun, stored: readonly StoredRun[]): number | undefined {
  const done = stored.filter(
    (one): one is Done => one.status === 'done' && one.kind === run.kind && one.metrics.seconds > 0,
  );
  const alike = done.map((one) => shared(run, one));
  const most = Math.max(...alike);
  const nearest = done.filter((_, i) => alike[i] === most);
  if (nearest.length === 0) return undefined;
  const paces = nearest.map(({ metrics }) => metrics.seconds / (metrics.steps ?? 1));
  const pace = paces.reduce((sum, one) => sum + one, 0) / paces.length;
  return pace * (run.facts.steps ?? 1);
}

function shared({ labels }: PlannedRun, other: Done): number {
  return Object.entries(labels).filter(([axis, label]) => axis !== 'seed' && other.labels[axis] === label)
    .length;
}
