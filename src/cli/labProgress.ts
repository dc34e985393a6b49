import { kindNamed } from '../lab/kinds/index.js';
import type { LabRecord } from '../lab/lab.js';
import type { PlannedRun, RunProgress } from '../lab/run.js';
import type { LabEvent } from '../lab/runner.js';
import type { StoredRun } from '../lab/store.js';
import type { Terminal } from './terminal.js';
import { counted, duration, elapsed, table } from './text.js';

/** Shows how a lab goes: a line for each run that ended, and where people look on a table of those under way. */
export class LabProgress {
  private readonly underWay = new Map<string, { run: PlannedRun; progress?: RunProgress }>();
  private readonly all: number;
  private readonly before: number;
  private ended = 0;
  private failed = 0;
  private readonly started = Date.now();

  constructor(
    private readonly terminal: Terminal,
    private readonly record: LabRecord,
    stored: readonly StoredRun[],
  ) {
    const done = new Set(stored.filter(({ status }) => status === 'done').map(({ id }) => id));
    this.all = record.runs.length;
    this.before = record.runs.filter(({ id }) => done.has(id)).length;
  }

  begin(): void {
    const { terminal, record, all, before } = this;
    const known = before > 0 ? `, ${before} of them done before` : '';
    terminal.say(`lab       ${record.title}: ${counted(all, 'run')}${known}`);
  }

  show(event: LabEvent): void {
    const { id, name } = event.run;
    const { terminal } = this;
    if (event.kind === 'progress') terminal.emit({ kind: 'progress', run: id, ...event.progress });
    else terminal.emit({ ...event, run: id, name });
    if (event.kind === 'start') this.underWay.set(id, { run: event.run });
    if (event.kind === 'progress') this.underWay.set(id, { run: event.run, progress: event.progress });
    if (event.kind === 'again') terminal.say(`again     ${name}: ${event.why}`);
    if (event.kind === 'done' || event.kind === 'failed') {
      this.underWay.delete(id);
      this.ended++;
      if (event.kind === 'failed') this.failed++;
      terminal.say(this.endLine(event));
    }
    this.panel();
  }

  private endLine(event: LabEvent & { kind: 'done' | 'failed' }): string {
    const { all, before, ended } = this;
    const count = `${String(before + ended).padStart(String(all).length)}/${all}`;
    const { name, kind } = event.run;
    if (event.kind === 'failed') return `${count}  ${name}  failed: ${event.message}`;
    // A run that others need is of another kind than the tables.
    const metric = kind === this.record.kind ? this.record.tables[0].metrics[0] : 'heldOut';
    const value = event.result.metrics[metric];
    const card = kindNamed(kind).metrics[metric];
    const figure = value === undefined || !card ? '' : `  ${card.title} ${value.toFixed(card.digits ?? 0)}`;
    return `${count}  ${name}${figure}  ${elapsed(event.seconds)}`;
  }

  /** What is under way, below a line of how far it all is. */
  private panel(): void {
    const { terminal, all, before, ended, failed, underWay } = this;
    const left = all - before - ended;
    if (!terminal.isLive || left === 0) return;
    // What is under way counts as far as it is.
    const parts = [...underWay.values()].reduce(
      (sum, { progress }) => sum + (progress ? progress.done / progress.total : 0),
      0,
    );
    const passed = (Date.now() - this.started) / 1000;
    const done = ended + parts;
    const rest = done > 0 ? `, ${duration((passed * (left - parts)) / done)} left` : '';
    const told = failed > 0 ? `, ${failed} failed` : '';
    const rows = [...underWay.values()].map(({ run, progress }) => [
      `  ${run.name}`,
      progress ? `${progress.done}/${progress.total}` : 'starting',
      progress?.loss === undefined ? '' : `loss ${progress.loss.toFixed(3)}`,
    ]);
    terminal.panel([`${before + ended} of ${all} done${told}${rest}`, ...table(rows)]);
  }
}
