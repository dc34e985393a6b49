import { fileURLToPath } from 'node:url';
import { expect, describe as group, it } from 'vitest';
import { type MethodConfig, methodNamed, methods } from '../methods/index.js';
import type { Method } from '../methods/method.js';
import { openModel } from '../models/base.js';
import { forTask } from '../models/forTask.js';
import { countedMethodRows, methodRows } from './methods.js';

const golden = (name: string) =>
  fileURLToPath(new URL(`../../test/golden/fixtures/${name}`, import.meta.url));

group('the table of methods', () => {
  it('gives each its own title and a paper', () => {
    const rows = methodRows();
    expect(new Set(rows.map(({ title }) => title)).size).toBe(Object.keys(methods).length);
    for (const { paper } of rows) expect(paper).toMatch(/^(arXiv:\d{4}\.\d{4,5}|OpenReview:\w+)$/);
  });

  it.each(Object.entries(methods))('tells of %s what its hooks do', async (_, found) => {
    const method: Method<unknown> = found;
    const task = { kind: 'regression' } as const;
    const model = forTask(await openModel(golden('qwen2')), task);
    const wanted = Object.entries({ r: 2, alora_invocation_tokens: [5] });
    const options = Object.fromEntries(wanted.filter(([key]) => key in method.options.shape));
    const own = method.select(method.parse('options', options), model).every(({ init }) => init === null);
    const { merges, peft } = method.card;
    // Some have a hook that only says why not.
    if (merges) expect(own || method.merge !== undefined).toBe(true);
    if (own) expect([merges, peft]).toEqual([true, null]);
    if (method.toPeft) expect(peft).not.toBeNull();
    if (peft !== null) expect(method.toPeft ?? method.folder).toBeDefined();
  });

  it('counts what each trains on a model, by the formula, and says why one cannot', async () => {
    const rows = await countedMethodRows(golden('smollm2'), { r: 2, target_modules: ['q_proj'] });
    const trainable = Object.fromEntries(rows.map((row) => [row.name, row.trainable]));
    const { sites, parameters } = await openModel(golden('smollm2'));
    const targets = sites.filter(({ name }) => name.endsWith('q_proj'));
    const sum = (of: (site: (typeof targets)[number]) => number) => targets.reduce((n, s) => n + of(s), 0);
    const total = [...parameters.values()].reduce((n, shape) => n + shape.reduce((a, b) => a * b, 1), 0);
    const lora = sum((s) => 2 * (s.in + s.out));
    expect(trainable.lora).toEqual({ parameters: lora, share: lora / total });
    expect(trainable.lorafa).toMatchObject({ parameters: sum((s) => 2 * s.out) });
    expect(trainable.dora).toMatchObject({ parameters: lora + sum((s) => s.out) });
    expect(trainable.vera).toMatchObject({ parameters: sum((s) => 2 + s.out) });
    expect(trainable.full).toEqual({ parameters: total, share: 1 });
    expect(trainable.bitfit).toEqual({ refused: expect.stringContaining('bitfit trains biases') });
  });

  it('refuses an adapter', async () => {
    await expect(countedMethodRows(`${golden('qwen2')}/adapter`)).rejects.toThrow(
      'is an adapter, expected a model',
    );
  });

  it("types a configuration by the method's own keys, in both spellings", () => {
    const good: MethodConfig<'lora'>[] = [
      { r: 4, loraAlpha: 8 },
      { r: 4, lora_alpha: 8 },
    ];
    for (const config of good)
      expect(methodNamed('lora').parse('c', config)).toMatchObject({ r: 4, loraAlpha: 8 });
    // @ts-expect-error VeRA has no alpha.
    const wrong: MethodConfig<'vera'> = { loraAlpha: 8 };
    expect(() => methodNamed('vera').parse('c', wrong)).toThrow('lora_alpha');
  });
});
