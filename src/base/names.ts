/** One option, three spellings: loraAlpha in TypeScript, lora_alpha in PEFT's files, lora-alpha as a flag. */

/** loraAlpha, from any of the three. */
export function camelCase(name: string): string {
  return name.replace(/[_-]+([a-zA-Z0-9])/g, (_, next: string) => next.toUpperCase());
}

/** lora_alpha, from any of the three. */
export function snakeCase(name: string): string {
  return camelCase(name).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** lora-alpha, from any of the three. */
export function kebabCase(name: string): string {
  return snakeCase(name).replaceAll('_', '-');
}
