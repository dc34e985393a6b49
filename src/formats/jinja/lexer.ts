/** Templates to tokens, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks. */
import { UserError } from '../../base/errors.js';
import { BLANKS, isBlank } from './text.js';

export interface Token {
  readonly type: 'data' | 'begin' | 'end' | 'name' | 'string' | 'integer' | 'float' | 'operator' | 'eof';
  /** The text; of a string what it means; of begin and end `{{`, `{%`, `}}` or `%}`. */
  readonly text: string;
  readonly line: number;
}

const OPERATORS = '//|**|==|!=|>=|<=|+|-|/|*|%|~|[|]|(|)|{|}|>|<|=|.|:|,|;'.split('|').concat('|');
const CLOSING: Record<string, string> = { ')': '(', ']': '[', '}': '{' };
const BLANK = `[${BLANKS}]`;
const sticky = (pattern: string, flags = '') => new RegExp(pattern.replaceAll('\\s', BLANK), `y${flags}`);

const WHITE = sticky('\\s+');
const NUMBER = sticky('(\\d+_)*\\d+((\\.(\\d+_)*\\d+)?e[+-]?(\\d+_)*\\d+|\\.(\\d+_)*\\d+)', 'i');
const INTEGER = sticky('0b(_?[01])+|0o(_?[0-7])+|0x(_?[\\da-f])+|[1-9](_?\\d)*|0(_?0)*', 'i');
const NAME = sticky('[\\p{L}\\p{N}_]+', 'u');
const STRING = sticky('\'[^\'\\\\]*(\\\\.[^\'\\\\]*)*\'|"[^"\\\\]*(\\\\.[^"\\\\]*)*"', 's');
const RAW = sticky('\\{%[-+]?\\s*raw\\s*(-%\\}\\s*|%\\})');

/** @throws UserError where the text is no template. */
export function tokenize(template: string): Token[] {
  const source = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  /** Whether what was read last ended a line. */
  let lineStarts = true;

  const failure = (message: string) => new UserError(`the template cannot be read: line ${line}: ${message}`);
  const fail = (message: string): never => {
    throw failure(message);
  };
  const push = (type: Token['type'], text: string): void => void tokens.push({ type, text, line });
  const pass = (end: number): void => {
    for (let i = at; i < end; i++) if (source.charCodeAt(i) === 10) line++;
    if (end > at) lineStarts = source[end - 1] === '\n';
    at = end;
  };
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  };
  const skipBlanks = (): void => {
    const blanks = match(WHITE);
    if (blanks !== undefined) pass(at + blanks.length);
  };
  /** Passes the end of a block or comment and what that takes with it. */
  const passEnd = (sign: string | undefined): void => {
    pass(at + 2);
    if (sign === '-') skipBlanks();
    else if (sign !== '+' && source[at] === '\n') pass(at + 1);
  };
  /** The text up to a tag, without the blanks that the tag's sign takes away. */
  const before = (text: string, sign: string | undefined, keepsIndent: boolean, started: boolean): string => {
    if (sign === '-') return text.slice(0, text.length - blanksAtEnd(text));
    if (sign === '+' || keepsIndent) return text;
    const lineAt = text.lastIndexOf('\n') + 1;
    const indent = text.length - lineAt;
    return (lineAt > 0 || started) && blanksAtEnd(text) >= indent ? text.slice(0, lineAt) : text;
  };

  while (at < source.length) {
    const begin = nextTag(source, at);
    const text = source.slice(at, begin);
    const sign = signAt(source, begin + 2);
    const started = lineStarts;
    const kind = source.slice(begin, begin + 2);
    RAW.lastIndex = begin;
    const raw = kind === '{%' ? RAW.exec(source) : null;
    const data = begin === source.length ? text : before(text, sign, kind === '{{', started);
    if (data !== '') push('data', data);
    pass(begin);
    if (begin === source.length) break;
    if (raw) {
      pass(begin + raw[0].length);
      readRaw();
    } else if (kind === '{#') {
      const body = begin + 2 + (sign === undefined ? 0 : 1);
      const end = source.indexOf('#}', body);
      if (end === -1) fail('a comment does not end');
      const endSign = end > body ? signAt(source, end - 1) : undefined;
      pass(end);
      passEnd(endSign);
    } else {
      push('begin', kind);
      pass(begin + 2 + (sign === undefined ? 0 : 1));
      readCode(kind === '{{' ? '}}' : '%}');
    }
  }
  push('eof', '');
  return tokens;

  function readRaw(): void {
    const end = new RegExp(`\\{%([-+]?)${BLANK}*endraw${BLANK}*([-+]?)%\\}`, 'g');
    end.lastIndex = at;
    const found = end.exec(source);
    if (!found) throw failure('{% raw %} does not end');
    const data = before(source.slice(at, found.index), found[1] || undefined, false, lineStarts);
    if (data !== '') push('data', data);
    pass(found.index + found[0].length - 2);
    passEnd(found[2] || undefined);
  }

  function readCode(end: '}}' | '%}'): void {
    const open: string[] = [];
    for (;;) {
      skipBlanks();
      if (at >= source.length) fail(`${end} is missing`);
      if (open.length === 0) {
        const signed = source[at] === '-' || (source[at] === '+' && end === '%}');
        if (source.startsWith(end, at + (signed ? 1 : 0))) {
          const sign = signed ? source[at] : undefined;
          push('end', end);
          pass(at + (signed ? 1 : 0));
          if (end === '%}') passEnd(sign);
          else {
            pass(at + 2);
            if (sign === '-') skipBlanks();
          }
          return;
        }
      }
      readToken(open);
    }
  }

  function readToken(open: string[]): void {
    const number = source[at - 1] === '.' ? undefined : match(NUMBER);
    const integer = number ?? match(INTEGER);
    const name = integer ?? match(NAME);
    const string = name ?? match(STRING);
    if (number !== undefined) take('float', number, number.replaceAll('_', ''));
    else if (integer !== undefined) take('integer', integer, integer.replaceAll('_', ''));
    else if (name !== undefined) {
      if (!/^[\p{L}_]/u.test(name)) fail(`${name} is no name`);
      take('name', name, name);
    } else if (string !== undefined) take('string', string, meaningOf(string.slice(1, -1), fail));
    else readOperator(open);
  }

  function readOperator(open: string[]): void {
    const operator = OPERATORS.find((candidate) => source.startsWith(candidate, at));
    if (operator === undefined) throw failure(`there is an unexpected ${JSON.stringify(source[at])}`);
    if ('([{'.includes(operator)) {
      if (open.length >= MAX_BRACKETS) fail('it nests too many brackets');
      open.push(operator);
    } else if (operator in CLOSING && open.pop() !== CLOSING[operator]) {
      fail(`there is an unexpected ${operator}`);
    }
    take('operator', operator, operator);
  }

  function take(type: Token['type'], written: string, text: string): void {
    push(type, text);
    pass(at + written.length);
  }
}

/** Python's own parser, to which jinja2 hands its code, takes no more than some 200. */
const MAX_BRACKETS = 100;

function nextTag(source: string, from: number): number {
  for (let at = source.indexOf('{', from); at !== -1; at = source.indexOf('{', at + 1)) {
    if ('{%#'.includes(source[at + 1] ?? ' ')) return at;
  }
  return source.length;
}

function signAt(source: string, at: number): '-' | '+' | undefined {
  const sign = source[at];
  return sign === '-' || sign === '+' ? sign : undefined;
}

function blanksAtEnd(text: string): number {
  let end = text.length;
  while (end > 0 && isBlank(text[end - 1])) end--;
  return text.length - end;
}

const ESCAPES: Record<string, string> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** What a string literal means, as Python's unicode-escape decodes it. */
function meaningOf(text: string, fail: (message: string) => never): string {
  const sequence = /\\(?:([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|(.))/gs;
  return text.replace(
    sequence,
    (all, octal?: string, x?: string, u?: string, long?: string, other?: string) => {
      const hex = x ?? u ?? long;
      if (octal !== undefined || hex !== undefined) {
        const code = octal === undefined ? Number.parseInt(hex!, 16) : Number.parseInt(octal, 8);
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) fail(`${all} is no character`);
        return String.fromCodePoint(code);
      }
      if ('xuUN'.includes(other!)) fail(`the escape ${all} is not supported`);
      return ESCAPES[other!] ?? all;
    },
  );
}
