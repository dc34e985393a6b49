/** Requests to the hub: who asks, how long it waits, and each refusal as one sentence. */
import { messageOf, UserError } from '../../base/errors.js';
import { type HubId, hubIdText } from './id.js';
import type { HubSettings } from './settings.js';

/** The hub did not answer, or could not: another time it may. */
export class HubUnreachable extends UserError {}

const ANSWER_MS = 30_000;

/**
 * `fetch` for one repository. The token goes to the hub alone, not where it redirects to. Without a signal of the
 * caller's the whole answer has to come within 30 seconds.
 * @throws HubUnreachable for a network that fails, status 429 and 5xx; UserError for every other refusal but 416.
 */
export function hubFetch(settings: HubSettings, id: HubId): typeof fetch {
  return async (url, init = {}) => {
    const headers = new Headers(init.headers);
    headers.set('user-agent', 'lowrank');
    if (settings.token && new URL(String(url)).origin === new URL(settings.endpoint).origin) {
      headers.set('authorization', `Bearer ${settings.token}`);
    }
    let response: Response;
    try {
      response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS), ...init, headers });
    } catch (error) {
      throw new HubUnreachable(`cannot reach ${settings.endpoint}: ${networkReason(error)}`);
    }
    if (response.ok || response.status === 416) return response;
    await response.body?.cancel();
    throw refusal(response, settings, id);
  };
}

const REASONS: Record<string, string> = {
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection was cut',
  EAI_AGAIN: 'its name cannot be looked up (is there a network?)',
  ENOTFOUND: 'its name is not known (is there a network?)',
  ENETUNREACH: 'there is no network',
  ETIMEDOUT: 'it does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'it does not answer',
  UND_ERR_SOCKET: 'the connection was cut',
};

/** Why a request failed: fetch itself says only "fetch failed", its causes more. */
export function networkReason(error: unknown): string {
  let at = error;
  for (let depth = 0; at instanceof Error && depth < 5; depth++) {
    const code = 'code' in at ? String(at.code) : '';
    if (REASONS[code]) return REASONS[code];
    if (at.name === 'TimeoutError' || at.name === 'AbortError') return 'it does not answer';
    if (!(at.cause instanceof Error)) break;
    at = at.cause;
  }
  return messageOf(at);
}

function refusal(response: Response, { endpoint, token }: HubSettings, id: HubId): UserError {
  const { status } = response;
  const place = hubIdText(id);
  const code = response.headers.get('x-error-code') ?? '';
  if (code === 'GatedRepo' || status === 403) {
    const account = token ? 'the account of your token' : 'your account, and set HF_TOKEN to its token';
    return new UserError(`${id.repo} is gated: accept its terms at ${endpoint}/${id.repo} with ${account}`);
  }
  if (code === 'RevisionNotFound') return new UserError(`${id.repo} has no revision "${id.revision}"`);
  if (status === 401) {
    return new UserError(
      token
        ? `there is no ${place} at ${endpoint}, or your token does not open it`
        : `there is no ${place} at ${endpoint}, or it is private and needs HF_TOKEN`,
    );
  }
  if (status === 404) return new UserError(`there is no ${place} at ${endpoint}`);
  if (status === 429) return new HubUnreachable(`${endpoint} has had too many requests, try again later`);
  const says = `${endpoint} answered ${status} for ${place}`;
  return status >= 500 ? new HubUnreachable(says) : new UserError(says);
}
