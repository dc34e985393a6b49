import { readFileSync } from 'node:fs';
import * as z from 'zod';
import { checkJson, parseJson } from '../formats/io/json.js';

const place = new URL('../../package.json', import.meta.url);
const schema = z.looseObject({ version: z.string() });

/** This package's version. */
export function packageVersion(): string {
  return checkJson('package.json', parseJson('package.json', readFileSync(place)), schema).version;
}
