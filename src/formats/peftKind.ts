/** What PEFT's adapter types differ in: the seam that reading, checking, writing and describing an adapter go through. */
import type * as z from 'zod';
import type { AdapterPart } from './peftNames.js';

/** Sizes; those of the model by name, as "in" and "out". */
export type PartShape = readonly (number | string)[];

/** One type of adapter, whose configuration is a C. */
export interface PeftKind<C> {
  /** Keys that say what an adapter computes. */
  readonly schema: z.ZodObject;
  /** Further keys with the value that leaves the type as it is; written so, refused otherwise. */
  readonly neutral: Readonly<Record<string, unknown>>;
  /** Keys that matter only before training, or only with a key that is refused. */
  readonly idle: Readonly<Record<string, unknown>>;
  /** The field's name of what a configuration describes. */
  title(config: C): string;
  /** Its size and scale in a few words. */
  describe(config: C): string;
  /** The tensors that every site of a name has; an embedding has others in some types. */
  parts(config: C, site: string, embedding: boolean): Partial<Record<AdapterPart, PartShape>>;
  /** Tensors that all sites share; absent: none. */
  shared?(config: C): Readonly<Record<string, PartShape>>;
  /** The rank of a site. */
  rank(config: C, site: string): number;
  /** What a site's product is multiplied with. */
  scaling(config: C, site: string): number;
  /** Throws UserError, prefixed with `place`, where two keys contradict. */
  check?(place: string, config: C): void;
}
