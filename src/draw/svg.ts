/** SVG as strings: elements, attributes and text that cannot break out of them. */

export type Attributes = Readonly<Record<string, string | number | undefined>>;

/** An element with its children; attributes that are undefined are left out, numbers are rounded to hundredths. */
export function element(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const written = Object.entries(attributes)
    .flatMap(([key, value]) => (value === undefined ? [] : [` ${key}="${attribute(value)}"`]))
    .join('');
  return children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join('')}</${name}>`;
}

/** A line of text; `anchor` says which of its ends stands at x. */
export function textAt(
  x: number,
  y: number,
  text: string,
  { anchor, ...attributes }: Attributes & { anchor?: 'middle' | 'end' } = {},
): string {
  return element('text', { x, y, 'text-anchor': anchor, ...attributes }, escaped(text));
}

/** Text as XML: markup and characters that XML does not have are replaced. */
export function escaped(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML forbids
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, '\ufffd')
      .replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
  );
}

/** A coordinate as short as it can be told. */
export function coordinate(value: number): string {
  return String(Number(value.toFixed(2)));
}

function attribute(value: string | number): string {
  return typeof value === 'number' ? coordinate(value) : escaped(value);
}
