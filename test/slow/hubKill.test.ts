/** The command killed in the middle of a download, and two of them at once. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import { jsonLines, type Running, run, start } from '../e2e/cliSupport.js';
import { filesOf, gitSha1, HubStandIn, sha256 } from '../e2e/hubStandIn.js';

const MODEL = filesOf(fileURLToPath(new URL('../../assets/base', import.meta.url)));
const WEIGHTS = MODEL['model.safetensors'];
const INSPECT = ['inspect', 'acme/base', '--json'];

let hub: HubStandIn;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-hub-'));
  hub = await HubStandIn.start();
  hub.repositories.set('acme/base', { files: MODEL });
  process.env.HF_ENDPOINT = hub.endpoint;
  process.env.HF_HOME = join(folder, 'hf');
});
afterEach(async () => {
  delete process.env.HF_ENDPOINT;
  delete process.env.HF_HOME;
  await hub.stop();
  await rm(folder, { recursive: true });
});

const blobsFolder = () => join(folder, 'hf', 'hub', 'models--acme--base', 'blobs');

/** The blobs that have their final name; each has to be what the name says. Returns how many, and how many parts. */
async function blobs(): Promise<{ whole: number; parts: number }> {
  const names = await readdir(blobsFolder()).catch(() => []);
  const whole = names.filter((name) => !name.endsWith('.incomplete'));
  for (const name of whole) {
    const bytes = await readFile(join(blobsFolder(), name));
    expect([sha256(bytes), gitSha1(bytes)]).toContain(name);
  }
  return { whole: whole.length, parts: names.length - whole.length };
}

/** Kills a command once the stand-in has sent so many bytes more. */
async function killAfter(child: Running, bytes: number): Promise<void> {
  const limit = hub.sent + bytes;
  while (hub.sent < limit) await new Promise((resolve) => setTimeout(resolve, 1));
  child.kill('SIGKILL');
  expect((await child.outcome).signal).toBe('SIGKILL');
}

describe('lowrank on a hub id', () => {
  it('killed at random points leaves nothing half under its final name, and goes on', async () => {
    hub.faults = { pauseMs: 1 };
    const rng = new Rng(5, 'points of the kills');
    let fetched = 0;
    for (let kill = 0; kill < 6; kill++) {
      const bytes = Math.floor((rng.uniform() * WEIGHTS.length) / 6);
      fetched += bytes;
      await killAfter(start(folder, INSPECT), bytes);
      expect((await blobs()).parts).toBeLessThanOrEqual(1);
    }
    hub.faults = {};
    const already = hub.sent;
    const { code, stdout, stderr } = await run(folder, INSPECT);
    expect([code, stderr]).toEqual([0, expect.stringMatching(/fetched acme\/base, 7\.\d MB\n$/)]);
    expect(jsonLines(stdout)[0]).toMatchObject({ kind: 'model', format: 'safetensors' });
    expect(await blobs()).toEqual({ whole: Object.keys(MODEL).length - 1, parts: 0 });
    // What the kills had received was not fetched again, but for what was under way when they came.
    expect(fetched).toBeGreaterThan(WEIGHTS.length / 6);
    expect(hub.sent - already).toBeLessThan(WEIGHTS.length - fetched / 2);
  });

  it('by two at once is fetched once, and both have it', async () => {
    hub.faults = { pauseMs: 1 };
    const ends = await Promise.all([run(folder, INSPECT), run(folder, INSPECT)]);
    for (const { code, stdout } of ends) {
      expect(code).toBe(0);
      expect(jsonLines(stdout)[0]).toMatchObject({ kind: 'model' });
    }
    expect(await blobs()).toEqual({ whole: Object.keys(MODEL).length - 1, parts: 0 });
    expect(hub.sent).toBeLessThan(1.5 * WEIGHTS.length);
  });

  it('is taken over from one that dies by one that waits', async () => {
    hub.faults = { pauseMs: 15 };
    const first = start(folder, INSPECT);
    while (hub.sent < 1_000_000) await new Promise((resolve) => setTimeout(resolve, 5));
    const second = run(folder, INSPECT);
    // One that waits has an empty part of its own.
    while ((await blobs()).parts < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 100));
    first.kill('SIGKILL');
    hub.faults = {};
    const { code, stderr } = await second;
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/another process is fetching model.safetensors/),
    ]);
    expect(await blobs()).toEqual({ whole: Object.keys(MODEL).length - 1, parts: 0 });
  });

  it('says in one line what is wrong', async () => {
    const { code, stdout, stderr } = await run(folder, ['generate', '--model', 'acme/none', '--prompt', 'x']);
    expect([code, stdout, stderr]).toEqual([
      1,
      '',
      expect.stringMatching(
        /^lowrank: there is no model at acme\/none, and as a hub id: there is no acme\/none at .*\n$/,
      ),
    ]);
  });

  it('generates with the model and an adapter that names it, from links into the cache', async () => {
    const adapter = join(folder, 'adapter');
    const rows = fileURLToPath(new URL('../../assets/demo/heldout.jsonl', import.meta.url));
    const job = ['--model', 'hf:acme/base@main', '--data', rows, '--output', adapter];
    const trained = await run(folder, ['train', ...job, '--max-steps', '1', '--batch-size', '1', '--r', '1']);
    expect(trained.code, trained.stderr).toBe(0);
    const config = JSON.parse(await readFile(join(adapter, 'adapter_config.json'), 'utf8'));
    expect(config.base_model_name_or_path).toBe('acme/base');
    hub.repositories.set('acme/lora', { files: filesOf(adapter) });
    const used = await run(folder, [
      'generate',
      '--adapter',
      'acme/lora',
      '--prompt',
      'Once',
      '--max-new-tokens',
      '4',
    ]);
    expect([used.code, used.stderr]).toEqual([0, expect.stringMatching(/fetched acme\/lora/)]);
    expect(used.stdout.length).toBeGreaterThan(3);
  });
});
