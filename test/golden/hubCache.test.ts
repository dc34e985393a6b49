/** The hub's cache that lowrank and Python's huggingface_hub share, live (scripts/parity/run.sh). */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { fromHub } from '../../src/formats/hub/download.js';
import { filesOf, HubStandIn } from '../e2e/hubStandIn.js';
import { golden } from './reference.js';

const REPO = 'acme/tiny';
const readSchema = z.object({
  snapshot: z.string(),
  file: z.string(),
  try: z.string(),
  warnings: z.array(z.string()),
  files: z.array(z.string()),
  refs: z.array(z.string()),
  size: z.number(),
});

describe.skipIf(process.env.LOWRANK_PARITY !== 'live')(
  'a cache shared with huggingface_hub [needs scripts/parity/run.sh]',
  () => {
    const files = filesOf(golden('fixtures/smollm2'));
    const variables = ['HF_ENDPOINT', 'HF_HOME', 'HF_HUB_OFFLINE', 'HF_HUB_CACHE'];
    const before = Object.fromEntries(variables.map((name) => [name, process.env[name]]));
    const id = { repo: REPO, revision: 'main' };
    let hub: HubStandIn;
    let home: string;

    beforeAll(async () => {
      hub = await HubStandIn.start();
      hub.repositories.set(REPO, { files });
      for (const name of variables) delete process.env[name];
      process.env.HF_ENDPOINT = hub.endpoint;
    });
    afterAll(async () => {
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      await hub.stop();
    });

    /** An empty cache for `use`. */
    async function withCache(use: () => Promise<void>): Promise<void> {
      home = await mkdtemp(join(tmpdir(), 'lowrank-hub-'));
      process.env.HF_HOME = home;
      try {
        await use();
      } finally {
        delete process.env.HF_HUB_OFFLINE;
        await rm(home, { recursive: true });
      }
    }

    async function python(...args: string[]): Promise<unknown> {
      const [command, script] = [
        golden('../../.venv/bin/python'),
        golden('../../scripts/parity/hub_cache.py'),
      ];
      const { stdout } = await promisify(execFile)(command, [script, ...args]);
      return JSON.parse(stdout);
    }

    it('Python finds what lowrank fetched, and fetches nothing again', () =>
      withCache(async () => {
        const folder = await fromHub(id);
        process.env.HF_HUB_OFFLINE = '1';
        const found = readSchema.parse(await python('read', REPO, 'model.safetensors'));
        const weights = join(folder, 'model.safetensors');
        expect(found).toEqual({
          ...{ snapshot: folder, file: weights, try: weights, warnings: [], refs: ['main'] },
          files: ['config.json', 'model.safetensors'],
          size: files['config.json'].length + files['model.safetensors'].length,
        });
        delete process.env.HF_HUB_OFFLINE;
        const { sent } = hub;
        await python('fetch', REPO);
        const others = Object.keys(files).filter((name) => !found.files.includes(name));
        expect(hub.sent - sent).toBe(others.reduce((sum, name) => sum + files[name].length, 0));
      }));

    it('lowrank finds what Python fetched, and fetches nothing again', () =>
      withCache(async () => {
        const { snapshot } = z.object({ snapshot: z.string() }).parse(await python('fetch', REPO));
        const { sent } = hub;
        expect(await fromHub(id)).toBe(snapshot);
        expect(hub.sent).toBe(sent);
        process.env.HF_HUB_OFFLINE = '1';
        expect(await fromHub(id)).toBe(snapshot);
        expect(await readFile(join(snapshot, 'model.safetensors'))).toEqual(files['model.safetensors']);
      }));
  },
);
