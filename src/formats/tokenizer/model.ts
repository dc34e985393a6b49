/** What all models have, and how their vocabularies are read. */
import * as z from 'zod';

export interface Model {
  /** How many tokens it counts: the next added token gets this id. */
  readonly size: number;
  /** One more than the largest id. */
  readonly end: number;
  /** @throws UnknownToken where the model has no token for a part of it and no unknown token either. */
  encode(piece: string, ids: number[]): void;
  idOf(token: string): number | undefined;
  tokenOf(id: number): string | undefined;
}

/** The model has no token for a piece of text. */
export class UnknownToken extends Error {}

/** Larger than any vocabulary. */
export const MAX_TOKEN_ID = 1 << 24;

/** Tokens and their ids, both ways. */
export class Vocabulary {
  readonly end: number;
  private readonly tokens = new Map<number, string>();

  constructor(readonly ids: ReadonlyMap<string, number>) {
    let end = 0;
    for (const [token, id] of ids) {
      this.tokens.set(id, token);
      end = Math.max(end, id + 1);
    }
    this.end = end;
  }

  get size(): number {
    return this.ids.size;
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  tokenOf(id: number): string | undefined {
    return this.tokens.get(id);
  }

  /** The id of the unknown token. @throws UnknownToken when `token` is none. */
  unknown(token: string): number {
    const id = this.ids.get(token);
    if (id === undefined)
      throw new UnknownToken(`the unk_token ${JSON.stringify(token)} is not in the vocabulary`);
    return id;
  }
}

/** An object of tokens and ids. Checked by hand: a schema for each of 100,000 entries takes seconds. */
export const vocabSchema = z.unknown().transform((json, context): Vocabulary => {
  const fail = (message: string, path: string[] = []) => {
    context.addIssue({ code: 'custom', path, message });
    return z.NEVER;
  };
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    return fail('expected an object of tokens and their ids');
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(json)) {
    if (!Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID) return fail('expected a token id', [token]);
    ids.set(token, id);
  }
  return new Vocabulary(ids);
});
