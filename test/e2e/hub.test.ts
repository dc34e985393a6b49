/** Downloads from a stand-in of the Hugging Face hub: whole, cut, broken, refused, and without a network. */
import {
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  statfs,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { locate } from '../../src/api/locate.js';
import { plan } from '../../src/api/plan.js';
import { UserError } from '../../src/base/errors.js';
import { fromHub, type HubOptions } from '../../src/formats/hub/download.js';
import { parseHubId } from '../../src/formats/hub/id.js';
import { filesOf, gitSha1, HubStandIn, sha256 } from './hubStandIn.js';

vi.mock('node:fs/promises', { spy: true });

const golden = (name: string) => fileURLToPath(new URL(`../golden/fixtures/${name}`, import.meta.url));
const MODEL = filesOf(golden('smollm2'));
const WEIGHTS = MODEL['model.safetensors'];
const VARIABLES = ['HF_ENDPOINT', 'HF_HUB_CACHE', 'HF_HUB_OFFLINE', 'HF_TOKEN', 'HF_HOME'];

let hub: HubStandIn;
let cache: string;
/** An address where nothing listens. */
let nowhere: string;
const before = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));

beforeAll(async () => {
  const gone = await HubStandIn.start();
  nowhere = gone.endpoint;
  await gone.stop();
  hub = await HubStandIn.start();
});
afterAll(() => hub.stop());

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'lowrank-hub-'));
  for (const name of VARIABLES) delete process.env[name];
  process.env.HF_ENDPOINT = hub.endpoint;
  process.env.HF_HUB_CACHE = cache;
  process.env.HF_HOME = cache;
  hub.repositories.clear();
  hub.repositories.set('acme/tiny', {
    files: { ...MODEL, 'README.md': Buffer.from('# tiny') },
    branches: ['v1'],
  });
  hub.faults = {};
  hub.requests.length = 0;
  hub.leaks.length = 0;
  hub.sent = 0;
});
afterEach(async () => {
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  await rm(cache, { recursive: true });
});

const get = (text: string, options: HubOptions = {}) =>
  fromHub(parseHubId(text)!, { pauseMs: 1, ...options });
const repoFolder = () => join(cache, 'models--acme--tiny');
const blobs = () => readdir(join(repoFolder(), 'blobs')).then((names) => names.sort());

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(UserError);
  const { message } = error as UserError;
  expect(message).not.toMatch(/\n|undefined|\[object/);
  return message;
}

/** That no blob has another content than its name says, and that no link leads nowhere. */
async function expectSound(): Promise<void> {
  for (const name of await blobs()) {
    if (name.endsWith('.incomplete')) continue;
    const bytes = await readFile(join(repoFolder(), 'blobs', name));
    expect([sha256(bytes), gitSha1(bytes)]).toContain(name);
  }
  const snapshot = join(repoFolder(), 'snapshots', hub.commitOf('acme/tiny'));
  for (const name of await readdir(snapshot).catch(() => [])) {
    expect(
      Buffer.compare(await readFile(join(snapshot, name)), hub.repositories.get('acme/tiny')!.files[name]),
    ).toBe(0);
  }
}

describe('a download', () => {
  it('has the layout of the usual cache, and only what is needed', async () => {
    const folder = await get('acme/tiny');
    const commit = hub.commitOf('acme/tiny');
    expect(folder).toBe(join(repoFolder(), 'snapshots', commit));
    expect((await readdir(folder)).sort()).toEqual(['config.json', 'model.safetensors']);
    expect(await readFile(join(repoFolder(), 'refs', 'main'), 'utf8')).toBe(commit);
    const link = join(folder, 'model.safetensors');
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect(await readlink(link)).toBe(`../../blobs/${sha256(WEIGHTS)}`);
    expect(await blobs()).toEqual([gitSha1(MODEL['config.json']), sha256(WEIGHTS)].sort());
    await expectSound();
  });

  it('of a plan is of config.json alone, and a later one of the whole model finds it', async () => {
    const { model } = await plan('acme/tiny');
    expect(model).toMatchObject({ name: 'acme/tiny', modelType: 'llama' });
    expect(await blobs()).toEqual([gitSha1(MODEL['config.json'])]);
    hub.sent = 0;
    await get('acme/tiny');
    expect(hub.sent).toBe(WEIGHTS.length);
    await expectSound();
    expect(await refusal(plan('acme/nothing'))).toContain('there is no acme/nothing');
  });

  it('is not made twice', async () => {
    await get('acme/tiny');
    hub.sent = 0;
    expect(await get('hf:acme/tiny@v1')).toBe(await get('acme/tiny'));
    expect(hub.sent).toBe(0);
    expect((await readdir(join(repoFolder(), 'refs'))).sort()).toEqual(['main', 'v1']);
  });

  it('follows a branch that moved, and keeps what did not change', async () => {
    const old = await get('acme/tiny');
    hub.repositories.get('acme/tiny')!.files['config.json'] = Buffer.from('{"model_type": "other"}');
    hub.sent = 0;
    const folder = await get('acme/tiny');
    expect(folder).not.toBe(old);
    expect(hub.sent).toBe(23);
    expect(await readFile(join(folder, 'config.json'), 'utf8')).toContain('other');
    await expectSound();
  });

  it('fetches the shards of an index, nothing else', async () => {
    const files = filesOf(golden('llama2'));
    hub.repositories.set('acme/tiny', { files: { ...files, 'model-00009-of-00009.safetensors': WEIGHTS } });
    const names = (await readdir(await get('acme/tiny'))).sort();
    const shards = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
    expect(names).toEqual(['config.json', ...shards, 'model.safetensors.index.json']);
    await expectSound();
  });

  it('fetches an adapter where there is one', async () => {
    hub.repositories.set('acme/tiny', { files: filesOf(join(golden('smollm2'), 'adapter')) });
    const names = await readdir(await get('acme/tiny'));
    expect(names.sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    expect(await refusal(get('acme/tiny', { kind: 'model' }))).toBe('acme/tiny is an adapter, not a model');
  });

  it('fetches one GGUF file, from a folder too', async () => {
    const bytes = Buffer.from('GGUF and more');
    hub.repositories.set('acme/tiny', { files: { 'q4/a b.gguf': bytes, 'c.gguf': bytes } });
    const path = await get('hf:acme/tiny/q4/a b.gguf');
    expect(path).toBe(join(repoFolder(), 'snapshots', hub.commitOf('acme/tiny'), 'q4', 'a b.gguf'));
    expect(await readFile(path, 'utf8')).toBe('GGUF and more');
    expect(await readlink(path)).toBe(`../../../blobs/${sha256(bytes)}`);
    expect(await refusal(get('hf:acme/tiny/d.gguf'))).toBe('acme/tiny/d.gguf has no file d.gguf');
    expect(await refusal(get('acme/tiny'))).toMatch(
      /GGUF files; name one of them, as hf:acme\/tiny\/c.gguf$/,
    );
  });

  it('tells how far it is', async () => {
    hub.faults = { pauseMs: 1 };
    const seen: number[] = [];
    await get('acme/tiny', {
      onDownload: ({ what, bytes, totalBytes, bytesPerSecond, secondsLeft }) => {
        expect([what, totalBytes]).toEqual(['acme/tiny', WEIGHTS.length + MODEL['config.json'].length]);
        if (bytesPerSecond > 0) expect(secondsLeft * bytesPerSecond).toBeCloseTo(totalBytes - bytes, 3);
        seen.push(bytes);
      },
    });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.length).toBeGreaterThan(3);
    expect(seen[seen.length - 1]).toBe(WEIGHTS.length + MODEL['config.json'].length);
  });

  it('sends the token to the hub and nowhere else', async () => {
    hub.repositories.get('acme/tiny')!.token = 'hf_secret';
    process.env.HF_TOKEN = 'hf_secret';
    await get('acme/tiny');
    expect(hub.leaks).toEqual([]);
    delete process.env.HF_TOKEN;
    await rm(repoFolder(), { recursive: true });
    await writeFile(join(cache, 'token'), 'hf_secret\n');
    await get('acme/tiny');
  });
});

describe('a connection that is cut', () => {
  it('goes on by ranges from where it was', async () => {
    hub.faults = { cutAfter: 20_000 };
    await get('acme/tiny');
    await expectSound();
    const ranges = hub.requests.flatMap((line) => / bytes=(\d+)-$/.exec(line)?.[1] ?? []).map(Number);
    // Each is asked for twice, at the hub and at its store.
    expect([...new Set(ranges)].length).toBe(Math.ceil(WEIGHTS.length / 20_000) - 1);
    expect(Math.min(...ranges)).toBeGreaterThan(0);
    expect(hub.sent).toBeLessThan(1.2 * WEIGHTS.length + MODEL['config.json'].length);
  });

  it('begins again where the server has no ranges', async () => {
    hub.faults = { noRanges: true, cutAfter: 40_000 };
    expect(await refusal(get('acme/tiny'))).toMatch(
      /^acme\/tiny\/model.safetensors: stopped at .* of 51.6 KB, .*do the same again$/,
    );
    hub.faults = { noRanges: true };
    await get('acme/tiny');
    await expectSound();
    expect((await blobs()).filter((name) => name.endsWith('.incomplete'))).toEqual([]);
  });

  it('goes on in the next call, from what the last one left', async () => {
    // One answer of 20,000 bytes, then only refusals.
    hub.faults = { cutAfter: 20_000, statuses: [] };
    const refused = get('acme/tiny', {
      onDownload: ({ bytes }) => {
        if (bytes > 10_000) hub.faults.statuses = Array(10).fill(503);
      },
    });
    expect(await refusal(refused)).toMatch(/stopped at .*answered 503/);
    const [part] = (await blobs()).filter((name) => name.endsWith('.incomplete'));
    const { size } = await stat(join(repoFolder(), 'blobs', part));
    expect(size).toBeGreaterThan(10_000);
    hub.faults = {};
    hub.sent = 0;
    await get('acme/tiny');
    expect(hub.sent).toBe(WEIGHTS.length - size);
    await expectSound();
  });

  it('asks for nothing where only the last step was missing', async () => {
    await get('acme/tiny');
    const blob = join(repoFolder(), 'blobs', sha256(WEIGHTS));
    const host = sha256(Buffer.from(hostname())).slice(0, 8);
    await rename(blob, `${blob}.000000000-${host}-0-00000000.incomplete`);
    hub.sent = 0;
    await get('acme/tiny');
    expect(hub.sent).toBe(0);
    await expectSound();
  });

  it('gets over answers of 503 and 429 in between', async () => {
    hub.faults = { statuses: [503, 429, 500] };
    await get('acme/tiny');
    await expectSound();
  });
});

describe('what is not what the hub says', () => {
  it('a byte that changed on the way is found, and nothing kept', async () => {
    hub.faults = { corrupt: true };
    expect(await refusal(get('acme/tiny'))).toMatch(
      /^acme\/tiny\/model.safetensors: what came has another checksum than the hub says \(/,
    );
    expect(await blobs()).not.toContain(sha256(WEIGHTS));
    expect(await readdir(join(repoFolder(), 'snapshots', hub.commitOf('acme/tiny')))).toEqual([
      'config.json',
    ]);
    hub.faults = {};
    await get('acme/tiny');
    await expectSound();
  });

  it('a broken part of an earlier process is fetched again', async () => {
    await get('acme/tiny');
    const blob = join(repoFolder(), 'blobs', sha256(WEIGHTS));
    await rm(blob);
    // One of another machine that may be alive is left alone and not waited for long, one of this machine taken over.
    const [foreign, dead] = ['00000000-5', `${sha256(Buffer.from(hostname())).slice(0, 8)}-0`].map(
      (owner) => `${blob}.000000000-${owner}-00000000.incomplete`,
    );
    await writeFile(foreign, 'x');
    await utimes(foreign, Date.now() / 1000, Date.now() / 1000 - 120);
    await writeFile(dead, Buffer.alloc(30_000, 7));
    await get('acme/tiny');
    await expectSound();
    expect((await blobs()).filter((name) => name.endsWith('.incomplete'))).toEqual([basename(foreign)]);
  });

  it('a blob of the wrong length is fetched again', async () => {
    await get('acme/tiny');
    await writeFile(join(repoFolder(), 'blobs', sha256(WEIGHTS)), 'half');
    await get('acme/tiny');
    await expectSound();
  });

  it('an answer that is none of a hub is refused in a sentence', async () => {
    hub.repositories.set('acme/tiny', { files: { 'config.json': Buffer.from('{}') } });
    expect(await refusal(get('acme/tiny'))).toBe(
      'acme/tiny has neither model.safetensors nor model.safetensors.index.json',
    );
    const commitOf = vi.spyOn(hub, 'commitOf').mockReturnValue('../../etc');
    expect(await refusal(get('acme/tiny'))).toMatch(/sha: .*expected the hash of a commit/);
    commitOf.mockRestore();
    process.env.HF_ENDPOINT = 'huggingface.co';
    expect(await refusal(get('acme/tiny'))).toBe(
      'HF_ENDPOINT is "huggingface.co", expected an address such as https://huggingface.co',
    );
  });

  it('an index whose shards lie elsewhere is refused', async () => {
    const index = Buffer.from('{"weight_map": {"a": "../../escape.safetensors"}}');
    const outside = '../../escape.safetensors';
    const files = { 'config.json': Buffer.from('{}'), 'model.safetensors.index.json': index };
    hub.repositories.set('acme/tiny', { files });
    expect(await refusal(get('acme/tiny'))).toBe(`acme/tiny has no file ${outside}`);
    // Nor is it fetched where the hub itself lists it.
    hub.repositories.set('acme/tiny', { files, alsoListed: [outside] });
    expect(await refusal(get('acme/tiny'))).toBe('acme/tiny has no file ../../escape.safetensors');
  });
});

describe('refusals', () => {
  it.each<[string, string, () => void, RegExp]>([
    [
      'an unknown repository',
      'acme/none',
      () => {},
      /^there is no acme\/none at http.*, or it is private and needs HF_TOKEN$/,
    ],
    [
      'an unknown repository, with a token',
      'acme/none',
      () => {
        process.env.HF_TOKEN = 'hf_x';
      },
      /^there is no acme\/none at http:\S+$/,
    ],
    ['an unknown revision', 'acme/tiny@nope', () => {}, /^acme\/tiny has no revision "nope"$/],
    [
      'a gated repository',
      'acme/tiny',
      () => Object.assign(hub.repositories.get('acme/tiny')!, { gated: true, token: 'hf_y' }),
      /^acme\/tiny is gated: accept its terms at http.*\/acme\/tiny with your account, and set HF_TOKEN/,
    ],
    [
      'pickles',
      'acme/tiny',
      () =>
        hub.repositories.set('acme/tiny', {
          files: { 'pytorch_model.bin': WEIGHTS, 'config.json': WEIGHTS },
        }),
      /^acme\/tiny has its weights only as PyTorch pickles \(pytorch_model.bin\), which are not read/,
    ],
    [
      'no network',
      'acme/tiny',
      () => {
        process.env.HF_ENDPOINT = nowhere;
      },
      /^cannot reach http:\/\/127.0.0.1:\d+: the connection was refused$/,
    ],
    [
      'no network by wish',
      'acme/tiny',
      () => {
        process.env.HF_HUB_OFFLINE = '1';
      },
      /^the cache .* does not have all of acme\/tiny, and HF_HUB_OFFLINE is set$/,
    ],
  ])('%s', async (_, id, prepare, message) => {
    prepare();
    expect(await refusal(get(id))).toMatch(message);
  });

  it('of an adapter with pickles only, as of a path that is nowhere', async () => {
    hub.repositories.set('acme/tiny', {
      files: { 'adapter_config.json': WEIGHTS, 'adapter_model.bin': WEIGHTS },
    });
    expect(await refusal(locate('acme/tiny', { kind: 'adapter' }))).toBe(
      'there is no adapter at acme/tiny, and as a hub id: acme/tiny has no adapter_model.safetensors, only adapter_model.bin: PyTorch pickles are not read',
    );
    expect(await refusal(locate('./acme/tiny', { kind: 'model' }))).toBe('there is no model at ./acme/tiny');
    expect(await refusal(locate('hf:acme'))).toMatch(/HF_TOKEN/);
  });

  it('of a disk without room, before a byte is fetched', async () => {
    vi.mocked(statfs).mockResolvedValueOnce({ bavail: 10, bsize: 1024 } as never);
    expect(await refusal(get('acme/tiny'))).toMatch(
      /^acme\/tiny needs 52.3 KB and the disk of .* has 10.2 KB left$/,
    );
    expect(hub.sent).toBe(0);
  });

  it('of a disk that fills up on the way, from where the next call goes on', async () => {
    const actual = await vi.importActual<typeof import('node:fs/promises')>('node:fs/promises');
    hub.faults = { pauseMs: 20 };
    let room = 20_000;
    vi.mocked(open).mockImplementation(async (path, flags, mode) => {
      const handle = await actual.open(path, flags, mode);
      if (flags !== 'r+') return handle;
      const write = handle.write.bind(handle) as (...args: unknown[]) => Promise<never>;
      vi.spyOn(handle, 'write').mockImplementation(async (...args: unknown[]) => {
        room -= args[2] as number;
        if (room < 0) throw Object.assign(new Error('no space'), { code: 'ENOSPC', syscall: 'write' });
        return write(...args);
      });
      return handle;
    });
    try {
      expect(await refusal(get('acme/tiny'))).toMatch(
        /^cannot write .*blobs.[0-9a-f]{64}: the disk is full$/,
      );
    } finally {
      vi.mocked(open).mockImplementation(actual.open);
    }
    await get('acme/tiny');
    expect(hub.requests.at(-1)).toMatch(/ bytes=[1-9]\d+-$/);
    await expectSound();
  });
});

describe('without a network', () => {
  it('the cache does, with a notice', async () => {
    const folder = await get('acme/tiny');
    const commit = hub.commitOf('acme/tiny');
    process.env.HF_ENDPOINT = nowhere;
    const notices: string[] = [];
    expect(await get('acme/tiny', { onNotice: (line) => notices.push(line) })).toBe(folder);
    expect(notices).toEqual([
      expect.stringMatching(/the connection was refused; using acme\/tiny as the cache has it$/),
    ]);
    process.env.HF_HUB_OFFLINE = '1';
    expect(await get('acme/tiny')).toBe(folder);
    expect(await get(`acme/tiny@${commit}`)).toBe(folder);
    await rm(join(folder, 'config.json'));
    expect(await refusal(get('acme/tiny'))).toMatch(/does not have all of acme\/tiny/);
  });

  it('a folder of the same name wins', async () => {
    const there = process.cwd();
    process.chdir(cache);
    try {
      await mkdir('acme/tiny', { recursive: true });
      expect(await locate('acme/tiny')).toBe('acme/tiny');
      expect(hub.requests).toEqual([]);
    } finally {
      process.chdir(there);
    }
  });
});
