import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

// The architecture as a test: each room imports only rooms to its left (docs/architecture.md).
const root = fileURLToPath(new URL('../../src', import.meta.url));
const ORDER = [
  'base',
  'formats|draw',
  'graph',
  'models',
  'methods',
  'train|serve|analysis',
  'api',
  'lab',
  'cli',
];
const rank = (room: string) => ORDER.findIndex((rooms) => rooms.split('|').includes(room));

const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((f) => f.endsWith('.ts'))
  .map((f) => f.replaceAll('\\', '/'));
const importsOf = (file: string) =>
  [...readFileSync(join(root, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((m) => m[1]);
const roomOf = (file: string) => (file.includes('/') ? file.split('/')[0] : '');

describe('rooms and arrows', () => {
  it('every folder is a room', () => {
    expect(files.map(roomOf).filter((room) => room !== '' && rank(room) < 0)).toEqual([]);
  });

  it('imports go left only', () => {
    const wrong: string[] = [];
    for (const file of files.filter((f) => f.includes('/'))) {
      for (const target of importsOf(file).filter((t) => t.startsWith('.'))) {
        const to = roomOf(relative(root, join(root, dirname(file), target)).replaceAll('\\', '/'));
        const [from, into] = [rank(roomOf(file)), rank(to)];
        if (to !== roomOf(file) && !(into >= 0 && into < from)) wrong.push(`${file} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('no circles among files, nor among those of test/ and scripts/', () => {
    expect(circles()).toEqual([]);
  });

  it('only the runtime imports the engine', () => {
    const importers = files.filter((f) => importsOf(f).some((t) => t.startsWith('onnxruntime')));
    expect(importers.filter((f) => !f.startsWith('graph/runtime/'))).toEqual([]);
    expect(importers.length).toBeGreaterThan(0);
  });

  it('what draws imports nothing but base and d3: it runs in a browser', () => {
    const drawing = files.filter((f) => roomOf(f) === 'draw' && !f.endsWith('.test.ts'));
    const foreign = drawing.flatMap((f) => importsOf(f)).filter((t) => !/^(\.\/|\.\.\/base\/|d3-)/.test(t));
    expect(foreign).toEqual([]);
    expect(drawing.length).toBeGreaterThan(0);
  });

  it('what analyses runs in a browser: nothing that it imports, however far, is of Node', () => {
    const analyses = files.filter((f) => roomOf(f) === 'analysis' && !f.endsWith('.test.ts'));
    expect(analyses.length).toBeGreaterThan(0);
    const reached = new Set<string>();
    const bare = new Set<string>();
    const waiting = [...analyses];
    for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
      if (reached.has(file)) continue;
      reached.add(file);
      const text = readFileSync(join(root, file), 'utf8');
      // What is imported as types alone is gone when it runs.
      for (const [, target] of text.matchAll(/(?:^|\n)(?:import|export)(?! type\b)[^;]*?from '([^']+)'/g)) {
        if (!target.startsWith('.')) bare.add(target);
        else waiting.push(relative(root, join(root, dirname(file), target)).replace(/\.js$/, '.ts'));
      }
    }
    expect([...bare].filter((target) => target.startsWith('node:') || target.startsWith('onnx'))).toEqual([]);
    expect([...reached].filter((f) => /^(formats\/hub|graph\/runtime)\//.test(f))).toEqual([]);
  });

  it('files stay readable in one sitting', () => {
    const long = files
      .filter((f) => !f.endsWith('_pb.ts'))
      .map((f) => `${f}: ${readFileSync(join(root, f), 'utf8').split('\n').length} lines`)
      .filter((line) => Number(line.match(/: (\d+)/)![1]) > 420);
    expect(long).toEqual([]);
  });
});

/** Files that import each other, however far around, types counted: groups of more than one. */
function circles(): string[][] {
  const top = resolve(root, '..');
  const all = ['src', 'test', 'scripts', 'bench'].flatMap((folder) =>
    readdirSync(join(top, folder), { recursive: true, encoding: 'utf8' })
      .filter((f) => /\.(ts|mjs)$/.test(f))
      .map((f) => join(top, folder, f)),
  );
  const imports = new Map(
    all.map((file) => [
      file,
      importsOf(relative(root, file))
        .filter((t) => t.startsWith('.'))
        .map((t) => resolve(dirname(file), t).replace(/\.js$/, '.ts')),
    ]),
  );
  const seen = new Map<string, Set<string>>();
  /** Every file that `file` imports, directly or not. */
  const reach = (file: string): Set<string> => {
    const known = seen.get(file);
    if (known) return known;
    const found = new Set<string>();
    const waiting = [...(imports.get(file) ?? [])];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (found.has(next)) continue;
      found.add(next);
      waiting.push(...(imports.get(next) ?? []));
    }
    seen.set(file, found);
    return found;
  };
  const inCircle = all.filter((file) => reach(file).has(file));
  const groups = inCircle.map((file) =>
    inCircle.filter((other) => reach(file).has(other) && reach(other).has(file)).map((f) => relative(top, f)),
  );
  return [...new Map(groups.map((group) => [group.join(), group])).values()];
}
