import { afterEach, describe, expect, it, vi } from 'vitest';
import { runProgram } from './command.js';
import { commands } from './commands.js';
import { wrappedCommand } from './help.js';

const { isTTY, columns } = process.stdout;
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  Object.assign(process.stdout, { isTTY, columns });
});

/** What `lowrank ...args` prints in a terminal of so many columns (in a pipe, where there are none), and its exit code. */
async function shown(args: readonly string[], width?: number): Promise<{ code: number; text: string }> {
  Object.assign(process.stdout, { isTTY: width !== undefined, columns: width });
  let text = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((piece) => {
    text += piece;
    return true;
  });
  const code = await runProgram(commands, '0.0.0', args);
  write.mockRestore();
  return { code, text };
}

const lengths = (text: string) => text.split('\n').map((line) => [...line].length);
/** What a text says, wherever its lines end. */
const words = (text: string) => text.split(/\s+/).filter((word) => word !== '' && word !== '\\');

const pages = [
  ['--help'],
  ['help'],
  ...commands.flatMap(({ name }) => [
    [name, '--help'],
    [name, '--help-all'],
    ['help', name],
  ]),
];

describe.each(pages)('lowrank %s %s', (...page) => {
  const args = page.filter((word) => word !== undefined);

  it.each([50, 60, 80, 120])('fits %i columns, its words whole', async (width) => {
    const { code, text } = await shown(args, width);
    expect(code).toBe(0);
    expect(Math.max(...lengths(text))).toBeLessThanOrEqual(width);
    expect(words(text)).toEqual(words((await shown(args, 120)).text));
  });
});

it('takes the width of COLUMNS in a pipe, and 80 without', async () => {
  vi.stubEnv('COLUMNS', '50');
  expect(Math.max(...lengths((await shown(['train', '--help'])).text))).toBeLessThanOrEqual(50);
  vi.stubEnv('COLUMNS', '');
  const widest = Math.max(...lengths((await shown(['train', '--help'])).text));
  expect(widest).toBeGreaterThan(70);
  expect(widest).toBeLessThanOrEqual(80);
});

it('shows the common options of train, and says where the others are', async () => {
  const options = (text: string) => [...text.matchAll(/^ {2}(--[\w-]+)/gm)].map(([, name]) => name);
  const [some, all] = [await shown(['train', '--help'], 80), await shown(['train', '--help-all'], 80)];
  expect(options(some.text)).toContain('--learning-rate');
  expect(options(some.text)).not.toContain('--adam-beta1');
  const left = options(all.text).filter((name) => !options(some.text).includes(name));
  expect(left).toContain('--adam-beta1');
  expect(some.text).toContain(`\n${left.length} more options: lowrank train --help-all\n`);
  expect(all.text).not.toContain('more options');
  // What is named as common is there.
  const { common = [] } = commands.find(({ name }) => name === 'train')!;
  expect(options(some.text).length).toBe(common.length + 1);
});

it('knows no help of what is no command', async () => {
  let said = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said += text;
    return true;
  });
  expect((await shown(['help', 'trai'])).code).toBe(2);
  expect(said).toBe('lowrank: there is no command "trai"; did you mean "train"?\n');
});

it('breaks a command where a shell goes on, options beside their values, quotes whole', () => {
  const command = 'lowrank generate --adapter my-adapter --prompt "Once upon a time" --merged --top-p 0.95';
  const lines = wrappedCommand(command, 40);
  expect(lines).toEqual([
    'lowrank generate --adapter my-adapter \\',
    '    --prompt "Once upon a time" \\',
    '    --merged --top-p 0.95',
  ]);
  expect(lines.join('\n').replaceAll(/ \\\n +/g, ' ')).toBe(command);
});
