import { styleText } from 'node:util';

type Format = Parameters<typeof styleText>[0];

/** The least time between two rewrites of a live line. */
const REWRITE_MS = 100;

/** Terminals that do not know their width say 0. */
const FALLBACK_COLUMNS = 80;

/**
 * Where a command writes. Text for people goes to stdout, or with --json to stderr, and stdout has one JSON
 * object a line. Live lines are rewritten in place where people look on, and left out everywhere else.
 */
export class Terminal {
  private readonly people: NodeJS.WriteStream;
  private rewritten = 0;
  private live: readonly string[] = [];

  constructor(readonly json: boolean) {
    this.people = json ? process.stderr : process.stdout;
  }

  /** Whether a live line shows: not in a pipe, nor in CI, which may give a terminal and keeps a log of it. */
  get isLive(): boolean {
    return this.people.isTTY === true && process.env.TERM !== 'dumb' && !process.env.CI;
  }

  /** Characters that fit into a line: the terminal's, or COLUMNS; undefined where lines may have any length. */
  get columns(): number | undefined {
    if (this.people.isTTY) return this.people.columns || FALLBACK_COLUMNS;
    const asked = Number(process.env.COLUMNS);
    return Number.isInteger(asked) && asked > 0 ? asked : undefined;
  }

  /** A line for people. */
  say(text = ''): void {
    this.clear();
    this.people.write(`${text}\n`);
  }

  /** A line beside the output proper: notices, statistics. */
  note(text: string): void {
    this.clear();
    process.stderr.write(`${text}\n`);
  }

  /** A piece of the output proper, as it is. */
  write(text: string): void {
    process.stdout.write(text);
  }

  /** One JSON line, with --json only. */
  emit(value: object): void {
    if (this.json) process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** Rewrites the live line, not too often. */
  status(text: string): void {
    this.panel([text]);
  }

  /** The same for several lines below each other. */
  panel(lines: readonly string[]): void {
    if (!this.isLive || Date.now() - this.rewritten < REWRITE_MS) return;
    this.rewritten = Date.now();
    const before = this.live.length;
    if (before > 1 || before > lines.length) this.people.write(`${this.toFirstLine()}\x1b[J`);
    this.live = lines.map((line) => line.slice(0, (this.columns ?? FALLBACK_COLUMNS) - 1));
    this.people.write(`\r${this.live.join('\x1b[K\n')}\x1b[K`);
  }

  /** Takes the live lines off. */
  clear(): void {
    if (this.live.length > 0)
      this.people.write(`${this.toFirstLine()}\x1b[${this.live.length > 1 ? 'J' : 'K'}`);
    this.live = [];
    this.rewritten = 0;
  }

  private toFirstLine(): string {
    return this.live.length > 1 ? `\r\x1b[${this.live.length - 1}A` : '\r';
  }

  /** Text in a colour or weight, where the terminal has them and NO_COLOR is not set. */
  style(format: Format, text: string): string {
    return this.people.isTTY && this.people.hasColors() ? styleText(format, text) : text;
  }
}
