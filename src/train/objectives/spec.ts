import type * as z from 'zod';
import type { Objective } from '../objective.js';

/** One entry of the table of objectives that may be asked for by name. */
export interface ObjectiveSpec<O = unknown> {
  readonly name: string;
  readonly options: z.ZodObject;
  /** Throws UserError where options do not go together. */
  make(options: O): Objective;
}
