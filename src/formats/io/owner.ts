/**
 * Which process something on disk belongs to, and whether that process lives. A mark names a process so that no
 * later one is taken for it: its number, when it started, the space of process numbers, the boot, the machine.
 */
import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname, uptime } from 'node:os';

/** A process by its mark. */
export interface Owner {
  pid: number;
  /** Linux: clock ticks from boot to start; elsewhere seconds since 1970. */
  start: number;
  /** Of processes that share their numbers; "0" where the system has one space of them. */
  space: string;
  boot: string;
  machine: string;
}

/** "unknown": it is of another machine or container, and nothing here can tell. */
export type Life = 'alive' | 'dead' | 'unknown';

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);

/** Pieces of text that the system shows as files; empty where it does not. */
function shown(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function spaceOfNumbers(): string {
  try {
    return hash(readlinkSync('/proc/self/ns/pid'));
  } catch {
    return '0';
  }
}

/** State and start of a process as Linux shows them; undefined where it shows none. */
function statOf(pid: number | 'self'): { state: string; start: number } | undefined {
  const text = shown(`/proc/${pid}/stat`);
  // The name in parentheses may hold anything; behind it come state, parent, … and as the 20th the start.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields.length < 20 ? undefined : { state: fields[0], start: Number(fields[19]) };
}

/** This process. */
export const self: Owner = {
  pid: process.pid,
  start: statOf('self')?.start ?? Math.floor(Date.now() / 1000 - process.uptime()),
  space: spaceOfNumbers(),
  boot: hash(shown('/proc/sys/kernel/random/boot_id')),
  machine: hash(`${hostname()} ${shown('/etc/machine-id')}`),
};

/** A mark as text: letters, digits and hyphens. */
export function markOf({ pid, start, space, boot, machine }: Owner): string {
  return [pid.toString(36), start.toString(36), space, boot, machine].join('-');
}

/** The pattern of a mark, its five parts in groups. */
export const MARK = '([0-9a-z]+)-([0-9a-z]+)-([0-9a-f]+)-([0-9a-f]{8})-([0-9a-f]{8})';

/** The owner whose mark was matched by MARK. */
export function ownerOf([pid, start, space, boot, machine]: readonly string[]): Owner {
  return { pid: Number.parseInt(pid, 36), start: Number.parseInt(start, 36), space, boot, machine };
}

/** Whether a process still runs. */
export function lifeOf(owner: Owner): Life {
  if (owner.machine !== self.machine) return 'unknown';
  if (owner.boot !== self.boot) return 'dead';
  if (owner.space !== self.space) return 'unknown';
  if (owner.pid === self.pid) return owner.start === self.start ? 'alive' : 'dead';
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    // EPERM: it runs, for somebody else.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return 'dead';
  }
  const stat = statOf(owner.pid);
  if (stat) return stat.start === owner.start && !'ZX'.includes(stat.state) ? 'alive' : 'dead';
  // Without /proc a process from before the system started is known to be gone.
  const booted = Date.now() / 1000 - uptime();
  return self.space === '0' && owner.start < booted - 60 ? 'dead' : 'alive';
}
