import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, readJsonFile, run, training } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

interface Result {
  warnings: { kind: string; message: string }[];
}
const resultOf = async (output: string) => (await readJsonFile(root, output, 'run.json')).result as Result;

it.each([
  {
    output: 'few',
    args: ['--max-steps', '2', '--learning-rate', '1e-2'],
    kinds: ['fewSteps'],
    says: /^warning {3}only 2 steps were taken, /m,
  },
  {
    output: 'still',
    args: ['--max-steps', '24', '--learning-rate', '1e-9', '--eval-data', 'heldout.jsonl'],
    kinds: ['lossUnmoved'],
    says: /^warning {3}the held-out loss did not move: (\d\.\d{4}) -> \1; try a higher learning rate/m,
  },
  {
    output: 'collapsed',
    args: ['--max-steps', '24', '--learning-rate', '1e5', '--method', 'full', '--schedule', 'constant'],
    kinds: ['collapsed'],
    says: /^warning {3}the run collapsed: the gradient is 0 since step \d+, the loss is stuck at [\d.]+; try a lower/m,
  },
])('the end of a run says that it was $kinds, in run.json too', async ({ output, args, kinds, says }) => {
  const { code, stdout } = await run(root, [...training, '--output', output, ...args]);
  expect(code).toBe(0);
  expect(stdout).toMatch(says);
  expect((await resultOf(output)).warnings.map(({ kind }) => kind)).toEqual(kinds);
});

it('a run that learns has no warning; --json has the list', async () => {
  const good = ['--max-steps', '24', '--learning-rate', '1e-2', '--target-modules', 'all-linear'];
  const { stdout, stderr } = await run(root, [...training, '--output', 'good', ...good, '--json']);
  expect(stderr).not.toContain('warning');
  expect(jsonLines(stdout).find(({ kind }) => kind === 'saved')).toMatchObject({ warnings: [] });
  const few = await run(root, [...training, '--output', 'json', '--max-steps', '2', '--json']);
  const saved = jsonLines(few.stdout).find(({ kind }) => kind === 'saved');
  expect(saved).toMatchObject({ warnings: [{ kind: 'fewSteps' }] });
  expect(saved!.warnings).toEqual((await resultOf('json')).warnings);
  expect(few.stderr).toContain('warning   only 2 steps');
});
