import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { beside, generateHint, mergeHint } from './hints.js';

beforeAll(() => vi.stubEnv('npm_command', ''));
afterAll(() => vi.unstubAllEnvs());

it('stands beside a folder, however that is spelled', () => {
  expect(['out', 'out/', './runs/../out//', '/tmp/out/'].map((path) => beside(path, '-merged'))).toEqual([
    'out-merged',
    'out-merged',
    'out-merged',
    '/tmp/out-merged',
  ]);
  const here = process.cwd().split('/').at(-1);
  expect(beside('.', '-merged')).toBe(`../${here}-merged`);
});

it('quotes what a shell would take apart', () => {
  expect(generateHint({ model: 'my model', quantize: undefined }, { chat: "it's", system: 'be $HOME' })).toBe(
    "lowrank generate --model 'my model' --chat 'it'\\''s' --system 'be $HOME'",
  );
  expect(mergeHint({ model: 'demo', adapter: 'é/' })).toBe(
    "lowrank merge --model demo --adapter 'é/' --output 'é-merged'",
  );
  vi.stubEnv('npm_command', 'exec');
  expect(generateHint({ adapter: 'a' })).toBe("npx lowrank generate --adapter a --prompt 'Once upon a time'");
});
