import { nearest, UserError } from '../base/errors.js';
import type { Site } from '../models/model.js';

/** PEFT's `target_modules`: a list of names, a regular expression for whole names, or "all-linear". */
export type TargetModules = string | readonly string[];

/** Text of plain names, with commas between several, means their list; other text stays as it is. */
export function parseTargets(target: TargetModules): TargetModules {
  return typeof target === 'string' && /^[\w.]+(,[\w.]+)*$/.test(target) ? target.split(',') : target;
}

/** Which layers a method is put on, by PEFT's options. */
export interface TargetChoice {
  targetModules: TargetModules;
  /** Names or a regular expression, as of targets, of layers that are left out. */
  excludeModules?: TargetModules;
  /** Numbers of the layers to adapt; a target that is in none has to be named in full. */
  layersToTransform?: readonly number[];
  /** What numbered layers may be called; any name without it. */
  layersPattern?: readonly string[];
  /** Modules with full copies, which are no targets. */
  modulesToSave?: readonly string[];
}

/**
 * The sites that a choice comes to, in the model's order. `kinds` are those that the method adapts.
 * Throws UserError where a part of the choice matches nothing, or nothing is left.
 */
export function selectTargets(c: TargetChoice, sites: readonly Site[], kinds?: readonly Kind[]): Site[] {
  const matched = matchTargets(c.targetModules, sites, kinds);
  const excluded = excluder(c.excludeModules, sites);
  const saved = ({ name }: Site) => (c.modulesToSave ?? []).some((m) => `.${name}.`.includes(`.${m}.`));
  const left = matched.filter((site) => !excluded(site) && !saved(site)).filter(layerFilter(c, matched));
  if (left.length > 0) return left;
  const options = [
    c.excludeModules !== undefined && 'exclude_modules',
    c.modulesToSave !== undefined && 'modules_to_save',
    c.layersToTransform !== undefined && 'layers_to_transform',
  ].filter((option) => option !== false);
  throw new UserError(`${options.join(' and ')} leave none of the layers that target_modules names`);
}

function excluder(exclude: TargetModules | undefined, sites: readonly Site[]): (site: Site) => boolean {
  if (exclude === undefined) return () => false;
  const one = typeof exclude === 'string' ? [fullMatch('exclude_modules', exclude)] : exclude.map(byName);
  for (const [i, matches] of one.entries()) {
    if (sites.some(matches)) continue;
    const what = typeof exclude === 'string' ? exclude : exclude[i];
    throw new UserError(`exclude_modules "${what}" matches no layer; ${available(sites)}`);
  }
  return (site) => one.some((matches) => matches(site));
}

/** Those in the layers to transform, as PEFT finds a layer's number: the first one in the name. */
function layerFilter(c: TargetChoice, matched: readonly Site[]): (site: Site) => boolean {
  const { layersToTransform: wanted, layersPattern: patterns, targetModules } = c;
  if (wanted === undefined || wanted.length === 0) return () => true;
  const numbered = patterns?.length
    ? patterns.map((pattern) => new RegExp(`^(?:|.*?\\.)${escaped(pattern)}\\.(\\d+)\\.`))
    : [/^.*?\.[^.]*\.(\d+)\./];
  const layerOf = ({ name }: Site) => numbered.map((n) => n.exec(name)?.[1]).find((found) => found);
  const layers = new Set(matched.flatMap((site) => layerOf(site) ?? []).map(Number));
  if (layers.size === 0) throw new UserError(`layers_pattern ${patterns?.join(', ')} fits no target's name`);
  const unknown = wanted.find((layer) => !layers.has(layer));
  if (unknown !== undefined) {
    const range = `${Math.min(...layers)} to ${Math.max(...layers)}`;
    throw new UserError(`layers_to_transform ${unknown}: the targets are in layers ${range}`);
  }
  // PEFT leaves it out in silence.
  const named = (site: Site) => targetModules.includes(site.name);
  const outside = matched.find((site) => layerOf(site) === undefined && !named(site));
  if (outside) {
    throw new UserError(
      `layers_to_transform: target ${outside.name} is in none of the layers; name it in full, or leave it out`,
    );
  }
  return (site) => named(site) || wanted.includes(Number(layerOf(site)));
}

type Kind = Site['kind'];
const byName = (target: string) => (s: Site) => s.name === target || s.name.endsWith(`.${target}`);
const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/**
 * The sites that `target` names, as PEFT matches: a listed name is a site's full name or its last parts ("q_proj",
 * "self_attn.q_proj"); a string is a regular expression for the full name; "all-linear" is every linear layer but the
 * LM head. Throws UserError that lists what there is when a target matches nothing of `kinds`.
 */
export function matchTargets(
  target: TargetModules,
  sites: readonly Site[],
  kinds: readonly Kind[] = ['linear'],
): Site[] {
  const fitting = sites.filter((s) => kinds.includes(s.kind));
  if (target === 'all-linear') return fitting.filter((s) => s.kind === 'linear' && s.name !== 'lm_head');
  if (typeof target === 'string') {
    const matched = fitting.filter(fullMatch('target_modules', target));
    if (matched.length === 0)
      throw new UserError(`target_modules "${target}" matches no layer; ${available(fitting)}`);
    return matched;
  }
  if (target.length === 0) throw new UserError(`target_modules is empty; ${available(fitting)}`);
  for (const t of target) {
    if (fitting.some(byName(t))) continue;
    if (sites.some(byName(t)))
      throw new UserError(`target_modules "${t}" is an embedding; ${available(fitting)}`);
    const guess = nearest(t, lastNames(fitting));
    throw new UserError(
      `target_modules "${t}" matches no layer${guess ? `; did you mean "${guess}"?` : ''}; ${available(fitting)}`,
    );
  }
  return fitting.filter((s) => target.some((t) => byName(t)(s)));
}

function fullMatch(option: string, pattern: string): (site: Site) => boolean {
  try {
    const whole = new RegExp(`^(?:${pattern})$`);
    return (site) => whole.test(site.name);
  } catch {
    throw new UserError(`${option} "${pattern}" is not a regular expression`);
  }
}

function lastNames(sites: readonly Site[]): string[] {
  return [...new Set(sites.map((s) => s.name.slice(s.name.lastIndexOf('.') + 1)))];
}

function available(sites: readonly Site[]): string {
  return `there are ${lastNames(sites).join(', ')}, or "all-linear"`;
}
