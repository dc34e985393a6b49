import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { Budget } from './budget.js';
import { GrowingList } from './growing.js';
import { compileJinja } from './template.js';

const folder = new URL('../fixtures/chat/', import.meta.url);
const goldens: { conversations: Record<string, object[]>; renderings: Record<string, object> } = JSON.parse(
  readFileSync(new URL('goldens.json', folder), 'utf8'),
);
const now = new Date('2026-01-02T03:04:05Z');
const given = { bos_token: '<s>', eos_token: '</s>', documents: null, tools: null };

const turns = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    role: i % 2 ? 'assistant' : 'user',
    content: `${i % 5 === 3 ? '<think>hm</think>' : ''}turn ${i}`,
  }));

/** What each length renders to, the longer after the shorter and mixed, beside what it renders to by itself. */
function differences(text: string, messages: readonly object[], more: object = {}): string[] {
  const render = compileJinja(text);
  const list = new GrowingList(messages);
  const counts = messages.map((_, i) => i + 1);
  const found: string[] = [];
  for (const count of [...counts, ...counts.filter((n) => n % 3 === 1), 0, ...counts]) {
    for (const prompt of [true, false]) {
      const variables = { ...given, ...more, add_generation_prompt: prompt };
      const result = (run: () => string) => {
        try {
          return run();
        } catch (error) {
          return String(error);
        }
      };
      const alone = result(() =>
        render({ variables: { ...variables, messages: messages.slice(0, count) }, now }),
      );
      const growing = { name: 'messages', list, count, kind: String(prompt) };
      const grown = result(() => render({ variables, growing, now }));
      if (grown !== alone) found.push(`${count} messages: ${grown} for ${alone}`);
    }
  }
  return found;
}

describe('a growing list', () => {
  const families = readdirSync(folder).filter((name) => name.endsWith('.jinja'));
  it.each(families)('%s: every length renders as it does by itself', (name) => {
    const text = readFileSync(new URL(name, folder), 'utf8');
    for (const rendering of Object.values(goldens.renderings)) {
      for (const messages of [...Object.values(goldens.conversations), turns(24)]) {
        expect(differences(text, messages, rendering)).toEqual([]);
      }
    }
  });

  it.each([
    '{% for m in messages %}{{ loop.index }}{{ loop.last }}{{ m.content }}{% endfor %}',
    '{% for m in messages %}{{ loop.revindex }}{{ loop.length }}{% endfor %}',
    '{% for m in messages %}{{ loop.nextitem.role }}{{ loop.previtem }}{% endfor %}',
    '{% for m in messages[1:] %}{{ messages[loop.index0 + 2].content }}{% else %}none{% endfor %}',
    '{% for m in messages %}{% if messages[7] is defined %}x{% endif %}{{ m.role }}{% endfor %}',
    '{% for m in messages %}{{ messages[-1].content }}{% endfor %}',
    '{% set n = messages | length %}{% for m in messages %}{{ n }}{% endfor %}',
    '{% set ns = namespace(n=0, seen=[]) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen + [m.role] %}{{ ns.n }}{% endfor %}{{ ns.n }}{{ ns.seen }}',
    '{% set ns = namespace(all=messages) %}{% for m in messages %}{{ ns.all | length }}{% endfor %}',
    '{% set ns = namespace() %}{% for m in messages %}{% set ns.rest = messages[2:] %}{{ ns.rest[0].content }}{% endfor %}{{ ns.rest | length }}',
    '{% set a = namespace(n=0) %}{% set b = a %}{% for m in messages %}{% set b.n = b.n + 2 %}{% endfor %}{{ a.n }}',
    '{% for m in messages %}{{ loop.changed(m.content[:6]) }}{% endfor %}',
    '{% for m in messages if m.role == "user" %}{{ m.content }}{{ loop.last }}{% endfor %}',
    '{% set texts = messages | map(attribute="content") %}{% for m in messages %}{{ texts | first }}{% endfor %}',
    '{% set ns = namespace(it=[messages | map(attribute="role")]) %}{% for m in messages %}{% for r in ns.it[0] %}{{ r }}{% endfor %}{% endfor %}',
    '{% macro say(m) %}[{{ m.content }}{{ messages | length }}]{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}',
    '{% macro all() %}{% for m in messages %}{{ m.role }}{% endfor %}{% endmacro %}{% for m in messages %}{{ m.content }}{% endfor %}{{ all() }}{{ all() }}',
    '{% for m in messages %}{% if m.content == "turn 4" %}{% break %}{% endif %}{{ m.content }}{% endfor %}{% for m in messages %}{{ m.role }}{% endfor %}',
    '{% for m in messages %}{% for o in messages %}{{ o.content[-1] }}{% endfor %}{{ loop.index }}{% endfor %}',
    '{% if messages %}{% for m in messages %}{% continue %}{% else %}none ran{% endfor %}{% endif %}',
    '{% if add_generation_prompt %}{% for m in messages %}{{ m.role }}{% endfor %}{% else %}{% for m in messages[::-1] %}{{ m.content }}{% endfor %}{% endif %}',
    '{% set x %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ x | upper }}{% for m in messages %}{{ x | length }}{% endfor %}',
    '{% for m in messages %}{% set ns = namespace(n=loop.index) %}{{ ns.n }}{% endfor %}',
    '{% for m in messages %}{% if loop.index > 5 %}{{ raise_exception("no") }}{% endif %}{{ m.content }}{% endfor %}',
    '{% for m in messages %}{{ messages is sequence }}{{ m in messages }}{% endfor %}',
  ])('%s', (text) => {
    expect(differences(text, turns(12))).toEqual([]);
  });

  it.each(['smollm2', 'llama2', 'llama3', 'llama3_1', 'llama3_2', 'mistral', 'hermes', 'smollm3', 'qwen2_5'])(
    '%s: twice the turns take twice the steps',
    (name) => {
      const render = compileJinja(readFileSync(new URL(`${name}.jinja`, folder), 'utf8'));
      const steps = (count: number) => {
        const spy = vi.spyOn(Budget.prototype, 'step');
        const list = new GrowingList(turns(count));
        for (let n = 1; n <= count; n += 2) {
          const variables = { ...given, add_generation_prompt: true };
          render({ variables, growing: { name: 'messages', list, count: n, kind: 'prompt' }, now });
        }
        const { length } = spy.mock.calls;
        spy.mockRestore();
        return length;
      };
      expect(steps(200) / steps(100)).toBeLessThan(2.2);
    },
  );

  it('ends what looks at the whole list for each length', () => {
    const render = compileJinja('{% for m in messages[::-1] %}{{ m }}{% endfor %}');
    const list = new GrowingList(turns(40));
    const all = () => {
      for (let count = 1; count <= 40; count++) {
        render({ variables: {}, growing: { name: 'messages', list, count, kind: '' }, now });
      }
    };
    list.spend(1.5e8 - 1_000);
    expect(all).toThrow('looks at the whole conversation for each turn, which takes too long for 40 turns');
  });
});
