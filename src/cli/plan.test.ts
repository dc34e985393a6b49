import { describe, expect, it, vi } from 'vitest';
import { plan } from './plan.js';
import { Terminal } from './terminal.js';

describe('lowrank plan', () => {
  async function shown(given: Record<string, unknown>, columns?: number): Promise<string[]> {
    const lines: string[] = [];
    const terminal = new Terminal(false);
    vi.spyOn(terminal, 'columns', 'get').mockReturnValue(columns);
    vi.spyOn(terminal, 'say').mockImplementation((text = '') => void lines.push(text));
    await plan.run(given, terminal);
    return lines;
  }

  it('prints tables with the formula beside each figure', async () => {
    const text = (await shown({ model: 'gpt3', r: 4, targetModules: ['q_proj', 'v_proj'] })).join('\n');
    for (const part of [
      'GPT-3 175B (gpt3): 96 layers, hidden 12,288',
      'lora    18,874,368  0.0108%  75.5 MB     r·(in + out) a target: 192·(4·12288 + 12288·4)',
      'gradients    37.7 MB   2·trained = 2·18874368',
      'lowrank does not train models of type gpt3',
      'storage of 1,000 tasks: 349.2 TB as a model each',
    ]) {
      expect(text).toContain(part);
    }
  });

  it('fits a narrow terminal, and lists all methods', async () => {
    const lines = await shown({ model: 'demo', allMethods: true }, 60);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(60);
    for (const method of ['lora', 'vera', 'bitfit', 'prompt']) expect(lines).toContain(method);
    expect(lines.join(' ')).toContain('memory of a run of lowrank on the CPU');
  });
});
