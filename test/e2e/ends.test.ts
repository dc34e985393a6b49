import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const node = (...args: string[]) => promisify(execFile)(process.execPath, args);

describe('a program that ends in the middle of work', () => {
  it('ends in its own way, at random moments: no native abort, no hang', async () => {
    const [closes, exits, errors] = [9, 6, 6];
    const { stdout } = await node(path('bench/ends.mjs'), ...[closes, exits, errors].map(String));
    // The seed is printed with the difference.
    expect(JSON.parse(stdout)).toEqual({
      seed: expect.any(Number),
      close: { 'code 0, refused': closes },
      exit: { 'code 3': exits },
      error: { 'code 1': errors },
    });
  }, 300_000);
});

describe('flags of Node', () => {
  const program = `
    import { loadModel } from ${JSON.stringify(path('dist/index.js'))};
    const model = await loadModel('demo', { threads: 1 });
    console.log(JSON.stringify(await model.generate('It rains', { maxNewTokens: 2 })));
    await model.close();`;

  it.each([
    ['a program on the command line', ['--input-type=module', '-e', program]],
    ['one that is evaluated and inspected', ['--inspect=0', '--input-type=module', '--eval', program]],
    ['a large heap', ['--max-old-space-size=2048', '--input-type=module', '-e', program]],
    ['warnings as errors', ['--throw-deprecation', '--input-type=module', '-e', program]],
  ])('do not reach the engine: %s', async (_, args) => {
    const { stdout } = await node(...args);
    expect(stdout).toMatch(/^".*"\n/);
  });
});
