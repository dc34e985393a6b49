/** A stand-in for the Hugging Face hub on this machine: its answers, and its faults on demand. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** What a repository holds, and how it behaves. */
export interface StandInRepository {
  files: Record<string, Uint8Array>;
  /** Branches and tags beside main. */
  branches?: string[];
  /** Only with this token; without, as if it were not there. */
  token?: string;
  /** Listed for everybody, its files only for holders of `token`. */
  gated?: boolean;
  /** Names that its listing has besides. */
  alsoListed?: string[];
}

/** What goes wrong with the bytes of files; all at once if wanted. */
export interface Faults {
  /** Answers the whole file to a request for a range. */
  noRanges?: boolean;
  /** Cuts the connection behind so many bytes of an answer. */
  cutAfter?: number;
  /** Milliseconds between pieces of `piece` bytes. */
  pauseMs?: number;
  /** Changes a byte of large files. */
  corrupt?: boolean;
  /** Status of the next answers, in turn, before all else. */
  statuses?: number[];
}

const LARGE = /\.(?:safetensors|gguf|bin)$/;
const PIECE = 16_384;
/** Entries of a listing an answer has: more come over a Link header. */
const PAGE = 4;

/** The files of a folder, for a repository. */
export function filesOf(folder: string): Record<string, Uint8Array> {
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(files.map(({ name }) => [name, readFileSync(join(folder, name))]));
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function gitSha1(bytes: Uint8Array): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

/** A running stand-in; large files come from a second server, as from the hub's own store. */
export class HubStandIn {
  readonly repositories = new Map<string, StandInRepository>();
  faults: Faults = {};
  /** "GET /path" with the range asked for, in order. */
  readonly requests: string[] = [];
  /** Authorization headers that the store saw; there should be none. */
  readonly leaks: string[] = [];
  /** Bytes of files that were sent. */
  sent = 0;

  private constructor(
    private readonly hub: Server,
    private readonly store: Server,
  ) {}

  static async start(): Promise<HubStandIn> {
    const [hub, store] = [createServer(), createServer()];
    const standIn = new HubStandIn(hub, store);
    hub.on('request', (request, response) => void standIn.answer(request, response));
    store.on('request', (request, response) => void standIn.answerStore(request, response));
    for (const server of [hub, store]) {
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve);
      });
    }
    return standIn;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.hub.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const server of [this.hub, this.store]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** The commit that a repository's main branch is at: it follows from its files. */
  commitOf(repo: string): string {
    const { files } = this.repositories.get(repo)!;
    const text = Object.entries(files).map(([name, bytes]) => `${name} ${sha256(bytes)}`);
    return createHash('sha1').update(text.join('\n')).digest('hex');
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.note(request);
    const url = new URL(request.url!, this.endpoint);
    const [, repo, kind, rest] =
      /^\/(?:api\/models\/)?([^/]+\/[^/]+)\/(revision|tree|resolve)\/(.*)$/.exec(url.pathname) ?? [];
    const found = this.repositories.get(repo);
    const authorized =
      found?.token === undefined || request.headers.authorization === `Bearer ${found.token}`;
    if (found === undefined || (!authorized && !found.gated)) {
      const status = request.headers.authorization ? 404 : 401;
      return refuse(response, status, 'RepoNotFound');
    }
    const commit = this.commitOf(repo);
    const [revision, ...parts] = rest.split('/').map(decodeURIComponent);
    if (!['main', 'HEAD', commit, ...(found.branches ?? [])].includes(revision)) {
      return refuse(response, 404, 'RevisionNotFound');
    }
    if (kind === 'revision') {
      const siblings = Object.keys(found.files).map((rfilename) => ({ rfilename }));
      const lastModified = '2026-01-01T00:00:00.000Z';
      return json(response, { _id: '1', id: repo, sha: commit, private: false, lastModified, siblings });
    }
    if (kind === 'tree') return this.list(url, found, parts.join('/'), response);
    if (!authorized) return refuse(response, 403, 'GatedRepo');
    const name = parts.join('/');
    const bytes = found.files[name];
    if (bytes === undefined) return refuse(response, 404, 'EntryNotFound');
    response.setHeader('x-repo-commit', commit);
    response.setHeader('etag', `"${gitSha1(bytes)}"`);
    if (!LARGE.test(name)) return this.send(request, response, bytes);
    response.setHeader('x-linked-etag', `"${sha256(bytes)}"`);
    response.setHeader('x-linked-size', bytes.length);
    const { port } = this.store.address() as AddressInfo;
    response.writeHead(302, { location: `http://localhost:${port}/${repo}/${name}` }).end();
  }

  private list(
    url: URL,
    { files, alsoListed = [] }: StandInRepository,
    folder: string,
    response: ServerResponse,
  ): void {
    const start = Number(url.searchParams.get('cursor') ?? 0);
    const entries = Object.entries(files)
      .filter(([name]) => name.replace(/\/?[^/]*$/, '') === folder)
      .map(([path, bytes]) => ({
        type: 'file',
        path,
        size: bytes.length,
        oid: gitSha1(bytes),
        ...(LARGE.test(path) && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }),
      }))
      .concat(alsoListed.map((path) => ({ type: 'file', path, size: 2, oid: gitSha1(Buffer.from('{}')) })));
    if (entries.length > start + PAGE) {
      url.searchParams.set('cursor', String(start + PAGE));
      response.setHeader('link', `<${url}>; rel="next"`);
    }
    json(response, entries.slice(start, start + PAGE));
  }

  private async answerStore(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.note(request);
    if (request.headers.authorization) this.leaks.push(request.headers.authorization);
    const [, owner, name, ...parts] = request.url!.split('/').map(decodeURIComponent);
    const bytes = this.repositories.get(`${owner}/${name}`)!.files[parts.join('/')];
    if (!this.faults.corrupt) return this.send(request, response, bytes);
    const changed = Uint8Array.from(bytes);
    changed[changed.length >> 1] ^= 1;
    return this.send(request, response, changed);
  }

  private async send(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array): Promise<void> {
    const { noRanges, cutAfter = Number.POSITIVE_INFINITY, pauseMs, statuses } = this.faults;
    const status = statuses?.shift();
    if (status !== undefined) return refuse(response, status, '');
    const wanted = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const from = wanted && !noRanges ? Number(wanted[1]) : 0;
    if (from >= bytes.length && from > 0) return refuse(response, 416, '');
    if (wanted && !noRanges) {
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
    }
    response.setHeader('content-length', bytes.length - from);
    if (request.method === 'HEAD') return void response.end();
    for (let at = from; at < bytes.length; ) {
      const piece = bytes.subarray(at, Math.min(at + PIECE, from + cutAfter));
      at += piece.length;
      this.sent += piece.length;
      if (piece.length > 0 && !response.write(piece)) {
        await drained(response);
      }
      if (response.destroyed) return;
      if (at - from >= cutAfter) {
        // What is written has to leave first.
        await new Promise((resolve) => setTimeout(resolve, 5));
        return void response.destroy();
      }
      if (pauseMs) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    response.end();
  }

  private note({ method, url, headers }: IncomingMessage): void {
    this.requests.push(`${method} ${url}${headers.range ? ` ${headers.range}` : ''}`);
  }
}

/** Resolves once more can be written, or nobody reads any more. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      response.off('drain', go).off('close', go);
      resolve();
    };
    response.on('drain', go).on('close', go);
  });
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code }).end();
}
