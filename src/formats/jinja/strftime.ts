/** Python's strftime in the C locale. */
import { UserError } from '../../base/errors.js';

const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

const pad = (n: number, width = 2) => String(n).padStart(width, '0');
const blankPad = (n: number) => String(n).padStart(2);
const hour = (date: Date) => date.getHours() % 12 || 12;
const short = (date: Date) =>
  `${pad(date.getMonth() + 1)}/${pad(date.getDate())}/${pad(date.getFullYear() % 100)}`;
const time = (date: Date) => `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
const day = (date: Date) => DAYS[date.getDay()].slice(0, 3);
const month = (date: Date) => MONTHS[date.getMonth()].slice(0, 3);

/** Days since the year began, from 1. */
function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 1);
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000 + 1;
}

const DIRECTIVES: Record<string, (date: Date) => string> = {
  a: day,
  A: (date) => DAYS[date.getDay()],
  b: month,
  B: (date) => MONTHS[date.getMonth()],
  c: (date) => `${day(date)} ${month(date)} ${blankPad(date.getDate())} ${time(date)} ${date.getFullYear()}`,
  d: (date) => pad(date.getDate()),
  D: short,
  e: (date) => blankPad(date.getDate()),
  F: (date) => `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`,
  h: month,
  H: (date) => pad(date.getHours()),
  I: (date) => pad(hour(date)),
  j: (date) => pad(dayOfYear(date), 3),
  m: (date) => pad(date.getMonth() + 1),
  M: (date) => pad(date.getMinutes()),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  R: (date) => `${pad(date.getHours())}:${pad(date.getMinutes())}`,
  S: (date) => pad(date.getSeconds()),
  T: time,
  u: (date) => String(date.getDay() || 7),
  w: (date) => String(date.getDay()),
  x: short,
  X: time,
  y: (date) => pad(date.getFullYear() % 100),
  Y: (date) => String(date.getFullYear()),
  '%': () => '%',
  // glibc's: without the zero in front.
  '-d': (date) => String(date.getDate()),
  '-H': (date) => String(date.getHours()),
  '-I': (date) => String(hour(date)),
  '-m': (date) => String(date.getMonth() + 1),
  '-M': (date) => String(date.getMinutes()),
  '-S': (date) => String(date.getSeconds()),
};

/** @throws UserError for a directive that is not known here. */
export function strftime(format: string, date: Date): string {
  return format.replace(/%(-?.?)/gsu, (directive, letter: string) => {
    if (!Object.hasOwn(DIRECTIVES, letter))
      throw new UserError(`the template formats the date with ${directive}`);
    return DIRECTIVES[letter](date);
  });
}
