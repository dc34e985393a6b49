/** Reads pictures, as far as tests ask. */
import { expect } from 'vitest';

/** The elements of a picture of one name and class, as their attributes. */
export function elements(svg: string, name: string, className = ''): Record<string, string>[] {
  return [...svg.matchAll(new RegExp(`<${name}((?: [A-Za-z0-9:-]+="[^"]*")*)/?>`, 'g'))]
    .map(([, attributes]) =>
      Object.fromEntries(
        [...attributes.matchAll(/ ([A-Za-z0-9:-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
      ),
    )
    .filter((attributes) => className === '' || attributes.class?.split(' ').includes(className));
}

export function texts(svg: string, className: string): string[] {
  return [...svg.matchAll(/<text([^>]*)>([^<]*)<\/text>/g)]
    .filter(([, attributes]) =>
      attributes
        .match(/class="([^"]*)"/)?.[1]
        .split(' ')
        .includes(className),
    )
    .map(([, , text]) => text);
}

/** The corners of a path of straight lines. */
export function corners(path: string): number[][] {
  return [...path.matchAll(/[ML](-?[\d.]+),(-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
}

/** Where marks stand. */
export function marks(svg: string): number[][] {
  return elements(svg, 'path', 'mark').flatMap(({ transform }) =>
    [...transform.matchAll(/translate\((-?[\d.]+),(-?[\d.]+)\)/g)].map(([, x, y]) => [Number(x), Number(y)]),
  );
}

export function frameOf(svg: string) {
  const [{ x, y, width, height }] = elements(svg, 'svg', 'plot');
  return {
    left: Number(x),
    top: Number(y),
    right: Number(x) + Number(width),
    bottom: Number(y) + Number(height),
  };
}

/** What is true of any picture. */
export function check(svg: string): void {
  expect(svg).not.toMatch(/NaN|Infinity|undefined|\bnull\b/);
  const [root] = elements(svg, 'svg');
  expect(root.role).toBe('img');
  expect(svg).toMatch(/<title>[^<]+<\/title>/);
  expect(svg).toMatch(/<desc>[^<]+<\/desc>/);
  // Tags are in balance, and no ampersand stands alone.
  const open: string[] = [];
  for (const [, closing, name, own] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/gi)) {
    if (own) continue;
    if (closing) expect(open.pop()).toBe(name);
    else open.push(name);
  }
  expect(open).toEqual([]);
  expect(svg.replace(/&#\d+;/g, '')).not.toContain('&');
  const [width, height] = [Number(root.width), Number(root.height)];
  for (const text of elements(svg, 'text')) {
    expect(Number(text.x)).toBeGreaterThanOrEqual(0);
    expect(Number(text.x)).toBeLessThanOrEqual(width);
    expect(Number(text.y)).toBeLessThanOrEqual(height);
  }
}
