import { readFileSync } from 'node:fs';
import * as z from 'zod';
import { checkJson, parseJson } from '../formats/io/json.js';

const place = new URL('../../package.json', import.meta.url);
const schema = z.looseObject({ version: z.string(), dependencies: z.record(z.string(), z.string()) });

function readPackage(): z.output<typeof schema> {
  return checkJson('package.json', parseJson('package.json', readFileSync(place)), schema);
}

/** This package's version. */
export function packageVersion(): string {
  return readPackage().version;
}

/** Names of the packages that this one needs. */
export function packageDependencies(): string[] {
  return Object.keys(readPackage().dependencies);
}
