import { Rng } from '../../base/rng.js';

/**
 * Made-up rows, as many as are wanted: a note of five facts about the weather in, a forecast to read aloud out. Which
 * sentences are said follows from the facts, so a model that has learned the task says the right ones and copies the
 * place, the day, the degrees and the wind. No pair of place and sky that is held out occurs in training. The demo's rows
 * (assets/demo) are the first of them.
 */
const SEED = 7;

const PLACES =
  `Oslo Bergen London Paris Rome Madrid Lisbon Dublin Berlin Vienna Prague Warsaw Athens Cairo Boston
  Chicago Denver Seattle Toronto Quebec Havana Lima Santiago Nairobi Delhi Tokyo Seoul Sydney Perth Auckland
  Geneva Bern Milan Venice Naples Porto Leeds York Bristol Cardiff Glasgow Moscow`.split(/\s+/);
const DAYS = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
const WINDS = ['north', 'east', 'south', 'west'];

interface Facts {
  place: string;
  day: string;
  sky: string;
  high: number;
  /** Where the wind blows from, and how it blows; undefined when the air is still. */
  wind: { from: string; force: Force } | undefined;
}

const FORCES = {
  light: (from: string) => `a light breeze from the ${from}`,
  fresh: (from: string) => `a fresh wind from the ${from}`,
  strong: (from: string) => `a strong wind from the ${from}`,
} as const;
type Force = keyof typeof FORCES;

/** Kinds of sky: how warm the day may be, how the forecast opens, and what it advises. */
const SKIES: Record<
  string,
  { high: [min: number, max: number]; opening: (place: string, day: string) => string; advice: string }
> = {
  sun: {
    high: [8, 34],
    opening: (place, day) => `${day} brings plenty of sunshine to ${place}.`,
    advice: 'Put on a hat and enjoy it.',
  },
  cloud: {
    high: [3, 28],
    opening: (place, day) => `${place} will lie under grey clouds on ${day}.`,
    advice: 'It should stay dry, so go for a walk.',
  },
  rain: {
    high: [3, 24],
    opening: (place, day) => `Rain is on its way to ${place} this ${day}.`,
    advice: 'Take an umbrella with you.',
  },
  showers: {
    high: [5, 26],
    opening: (place, day) => `Showers will come and go over ${place} on ${day}.`,
    advice: 'Keep a coat at hand.',
  },
  fog: {
    high: [1, 15],
    opening: (place, day) => `${place} will wake up in thick fog on ${day}.`,
    advice: 'Drive slowly and use your lights.',
  },
  snow: {
    high: [-15, 1],
    opening: (place, day) => `Snow will fall on ${place} on ${day}.`,
    advice: 'Wear warm boots and mind the ice.',
  },
  thunder: {
    high: [16, 34],
    opening: (place, day) => `Thunder will roll over ${place} on ${day}.`,
    advice: 'Stay indoors until it has passed.',
  },
};

function feeling(high: number): string {
  if (high < 0) return 'freezing';
  if (high < 8) return 'cold';
  if (high < 15) return 'cool';
  if (high < 22) return 'mild';
  return high < 28 ? 'warm' : 'hot';
}

function prompt({ place, day, sky, high, wind }: Facts): string {
  const air = wind ? `${wind.force} wind from the ${wind.from}` : 'no wind';
  return `${place}, ${day}: ${high} degrees, ${air}, ${sky}.`;
}

function completion({ place, day, sky, high, wind }: Facts): string {
  const { opening, advice } = SKIES[sky];
  const air = wind ? FORCES[wind.force](wind.from) : 'hardly any wind';
  return ` ${opening(place, day)} Expect a ${feeling(high)} day with a high of ${high} degrees and ${air}. ${advice}`;
}

export interface WeatherRow {
  prompt: string;
  completion: string;
}

/** Draws so many rows of each; one of seven kinds of sky is held out for each place. Fewer are the first of more. */
export function weatherRows(
  trainRows: number,
  heldOutRows: number,
): { train: WeatherRow[]; heldOut: WeatherRow[] } {
  const skies = Object.keys(SKIES);
  const held = new Rng(SEED, 'held-out sky');
  const heldSky = new Map(PLACES.map((place) => [place, skies[held.below(skies.length)]]));
  const rng = new Rng(SEED, 'rows');
  const pick = <T>(choices: readonly T[]) => choices[rng.below(choices.length)];
  const rows = { train: [] as WeatherRow[], heldOut: [] as WeatherRow[] };
  const seen = new Set<string>();
  while (rows.train.length < trainRows || rows.heldOut.length < heldOutRows) {
    const place = pick(PLACES);
    const isHeld = rng.below(8) === 0;
    const sky = isHeld ? heldSky.get(place)! : pick(skies.filter((name) => name !== heldSky.get(place)));
    const [min, max] = SKIES[sky].high;
    const facts: Facts = {
      place,
      day: pick(DAYS),
      sky,
      high: min + rng.below(max - min + 1),
      wind:
        rng.below(6) === 0 ? undefined : { from: pick(WINDS), force: pick(Object.keys(FORCES) as Force[]) },
    };
    const list = isHeld ? rows.heldOut : rows.train;
    const asked = prompt(facts);
    if (seen.has(asked) || list.length === (isHeld ? heldOutRows : trainRows)) continue;
    seen.add(asked);
    list.push({ prompt: asked, completion: completion(facts) });
  }
  return rows;
}
