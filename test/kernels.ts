/** What the engine ran, as its profile tells. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The operators of the profile that a session wrote to `folder` under `name`, in the order in which they ran. */
export function kernels(folder: string, name: string): string[] {
  const file = readdirSync(folder).find((entry) => entry.startsWith(`${name}_`))!;
  const events: { cat: string; name: string; ts: number; args: { op_name: string } }[] = JSON.parse(
    readFileSync(join(folder, file), 'utf8'),
  );
  return events
    .filter((event) => event.cat === 'Node' && event.name.endsWith('kernel_time'))
    .sort((a, b) => a.ts - b.ts)
    .map((event) => event.args.op_name);
}
