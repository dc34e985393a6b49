/** What a person writes for something on the Hugging Face hub. */
import { UserError } from '../../base/errors.js';

/** A model repository, at a revision, or one file of it. */
export interface HubId {
  /** "owner/name", or the bare name of the hub's oldest models. */
  repo: string;
  /** Branch, tag or commit; "main" where none is given. */
  revision: string;
  /** A file of the repository (a GGUF model), where one is named. */
  file?: string;
}

const PREFIX = 'hf:';
const DEFAULT_REVISION = 'main';

/** A part of an id as the hub allows it: letters, digits, "-", "_" and ".", none of the last two at an end. */
const PART = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;

/** Git's own rule, as far as it keeps a name from leaving its folder. */
const REVISION = /^(?!.*(?:\.\.|\/\/|\/\.))[A-Za-z0-9_][A-Za-z0-9._/-]{0,254}$/;

/**
 * The hub id that `text` is: `owner/name`, `hf:owner/name@revision`, or `hf:owner/name/file.gguf@revision`.
 * Undefined for what can only be a path. A path may look like an id: ask the disk first.
 * @throws UserError where text begins with "hf:" and goes on as no id.
 */
export function parseHubId(text: string): HubId | undefined {
  const marked = text.startsWith(PREFIX);
  const body = marked ? text.slice(PREFIX.length).replace(/^\/\//, '') : text;
  const at = body.indexOf('@');
  const path = at < 0 ? body : body.slice(0, at);
  const revision = at < 0 ? DEFAULT_REVISION : body.slice(at + 1);
  const parts = path.split('/');
  const name = parts.slice(0, 2);
  const file = parts.slice(2).join('/');
  const valid =
    name.every((part) => PART.test(part) && !/--|\.\./.test(part)) &&
    REVISION.test(revision) &&
    parts.slice(2).every((part) => /^[^\\:\0]+$/.test(part) && part !== '.' && part !== '..');
  if (!marked) {
    return valid && parts.length === 2 && !path.endsWith('.gguf')
      ? { repo: name.join('/'), revision }
      : undefined;
  }
  if (!valid) {
    throw new UserError(
      `${text} is no hub id, expected hf:owner/name, hf:owner/name@revision or hf:owner/name/file.gguf`,
    );
  }
  return { repo: name.join('/'), revision, ...(file !== '' && { file }) };
}

/** As a person would write it. */
export function hubIdText({ repo, revision, file }: HubId): string {
  const at = revision === DEFAULT_REVISION ? '' : `@${revision}`;
  return `${repo}${file === undefined ? '' : `/${file}`}${at}`;
}
