import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { makeWorkspace, run } from './cliSupport.js';

// The command lines that a command ends with are pasted into a shell here, as a reader pastes them.

vi.setConfig({ testTimeout: 120_000 });

const command = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** The lines of an output that begin with the command's name. */
function hintsOf(stdout: string): string[] {
  return stdout.split('\n').flatMap((line) => /(?:^ +|: )(lowrank .+)/.exec(line)?.[1] ?? []);
}

/** Runs a line in a shell that knows the command; rejects when it does not exit with 0. */
async function paste(line: string, cwd: string): Promise<string> {
  const script = `lowrank() { '${process.execPath}' '${command}' "$@"; }; ${line}`;
  const env = { ...process.env, LOWRANK_CACHE: join(root, 'cache'), npm_command: '' };
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { cwd, env });
  return stdout;
}

it('after rows of chats a chat is proposed, after others a prompt, and both run', async () => {
  const turns = [
    { role: 'user', content: `What's "up", $HOME & co?` },
    { role: 'assistant', content: 'Nothing.' },
  ];
  await writeFile(join(root, 'chats.jsonl'), `${JSON.stringify({ messages: turns })}\n`.repeat(8));
  for (const [data, proposed] of [
    ['chats.jsonl', `--chat 'What'\\''s "up", $HOME & co?'`],
    ['train.jsonl', "--prompt '0 is'"],
  ]) {
    const output = `${data}-run/`;
    const args = ['train', '--model', 'model', '--data', data, '--output', output, '--max-steps', '1'];
    const { stdout, stderr, code } = await run(root, args);
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    const [generate, merge] = hintsOf(stdout);
    expect(generate).toContain(proposed);
    await paste(`${generate} --max-new-tokens 1`, root);
    const [use] = hintsOf(await paste(merge, root));
    expect(await readdir(join(root, `${data}-run-merged`))).toContain('config.json');
    await paste(`${use} --max-new-tokens 1`, root);
  }
});

it('in the folder itself, the merged model goes beside it', async () => {
  const here = join(root, 'a folder');
  await mkdir(here);
  const args = [
    'train',
    '--model',
    '../model',
    '--data',
    '../train.jsonl',
    '--output',
    '.',
    '--max-steps',
    '1',
  ];
  const { stdout, code } = await run(here, args);
  expect(code).toBe(0);
  for (const hint of hintsOf(stdout)) await paste(hint, here);
  expect(await readdir(root)).toContain('a folder-merged');
});
