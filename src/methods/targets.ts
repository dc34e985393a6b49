import { nearest, UserError } from '../base/errors.js';
import type { Site } from '../models/model.js';

/** PEFT's `target_modules`: a list of names, a regular expression for whole names, or "all-linear". */
export type TargetModules = string | readonly string[];

/** Text of plain names, with commas between several, means their list; other text stays as it is. */
export function parseTargets(target: TargetModules): TargetModules {
  return typeof target === 'string' && /^[\w.]+(,[\w.]+)*$/.test(target) ? target.split(',') : target;
}

/**
 * The linear sites that `target` names, as PEFT matches: a listed name is a site's full name or its last
 * parts ("q_proj", "self_attn.q_proj"); a string is a regular expression for the full name; "all-linear" is
 * every linear layer but the LM head. Throws UserError that lists what there is when a target matches nothing.
 */
export function matchTargets(target: TargetModules, sites: readonly Site[]): Site[] {
  const linear = sites.filter((s) => s.kind === 'linear');
  if (target === 'all-linear') return linear.filter((s) => s.name !== 'lm_head');
  if (typeof target === 'string') {
    const matched = linear.filter((s) => fullMatch(target).test(s.name));
    if (matched.length === 0)
      throw new UserError(`target_modules "${target}" matches no layer; ${available(linear)}`);
    return matched;
  }
  if (target.length === 0) throw new UserError(`target_modules is empty; ${available(linear)}`);
  const named = (t: string) => (s: Site) => s.name === t || s.name.endsWith(`.${t}`);
  for (const t of target) {
    if (linear.some(named(t))) continue;
    if (sites.some(named(t)))
      throw new UserError(`target_modules "${t}" is an embedding; ${available(linear)}`);
    const guess = nearest(t, lastNames(linear));
    throw new UserError(
      `target_modules "${t}" matches no layer${guess ? `; did you mean "${guess}"?` : ''}; ${available(linear)}`,
    );
  }
  return linear.filter((s) => target.some((t) => named(t)(s)));
}

function fullMatch(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})$`);
  } catch {
    throw new UserError(`target_modules "${pattern}" is not a regular expression`);
  }
}

function lastNames(sites: readonly Site[]): string[] {
  return [...new Set(sites.map((s) => s.name.slice(s.name.lastIndexOf('.') + 1)))];
}

function available(sites: readonly Site[]): string {
  return `there are ${lastNames(sites).join(', ')}, or "all-linear"`;
}
