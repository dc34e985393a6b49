import { nearest, UserError } from '../base/errors.js';
import { layerNumber, type NameTest, savedModule, wholeName } from '../formats/peftPatterns.js';
import { isInnerLinear, ROLES, type Role, type Site } from '../models/model.js';

/** PEFT's `target_modules`: a list of names, or roles, a regular expression for whole names, or "all-linear". */
export type TargetModules = string | readonly string[];

/** What PEFT adapts of the model types here where a configuration does not say. */
export const DEFAULT_TARGETS: readonly string[] = ['q_proj', 'v_proj'];

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
  /** What numbered layers may be called, as regular expressions; any name without it. */
  layersPattern?: readonly string[];
  /** Modules with full copies, which are no targets. */
  modulesToSave?: readonly string[];
  /** Whether files have the targets' matrices as [in, out]; `namedTargets` tells. */
  fanInFanOut?: boolean;
}

/**
 * The sites that a choice comes to, in the model's order. `kinds` are those that the method adapts.
 * Throws UserError where a part of the choice matches nothing, or nothing is left.
 */
export function selectTargets(c: TargetChoice, sites: readonly Site[], kinds?: readonly Kind[]): Site[] {
  const matched = matchTargets(c.targetModules, sites, kinds);
  for (const [text, test] of excludeTests(c)) {
    if (!sites.some((site) => test(site.name))) {
      throw new UserError(`exclude_modules "${text}" matches no layer; ${available(sites)}`);
    }
  }
  checkLayers(c, matched);
  const kept = keepTest(c);
  const left = matched.filter((site) => kept(site.name));
  if (left.length > 0) return left;
  const options = [
    c.excludeModules !== undefined && 'exclude_modules',
    c.modulesToSave !== undefined && 'modules_to_save',
    c.layersToTransform !== undefined && 'layers_to_transform',
  ].filter((option) => option !== false);
  throw new UserError(`${options.join(' and ')} leave none of the layers that target_modules names`);
}

/** Whether PEFT adapts a site of that name, by its configuration: a name in a list need not be one of the model's. */
export function targetTest(c: TargetChoice): (site: TargetName) => boolean {
  const [named, kept] = [namedBy(c.targetModules), keepTest(c)];
  return (site) => named(site) && kept(site.name);
}

/** What a choice leaves of the targets. */
function keepTest(c: TargetChoice): NameTest {
  const excluded = excludeTests(c).map(([, test]) => test);
  const saved = (c.modulesToSave ?? []).map((module) => savedModule('modules_to_save', module));
  const { layersToTransform: wanted, targetModules } = c;
  const layerOf = wanted?.length ? layerNumber('layers_pattern', c.layersPattern) : undefined;
  const inLayers = (name: string) => targetModules.includes(name) || wanted!.includes(layerOf!(name) ?? -1);
  return (name) =>
    !excluded.some((test) => test(name)) &&
    !saved.some((test) => test(name)) &&
    (layerOf === undefined || inLayers(name));
}

function excludeTests({ excludeModules: exclude }: TargetChoice): [text: string, test: NameTest][] {
  if (exclude === undefined) return [];
  if (typeof exclude === 'string') return [[exclude, wholeName('exclude_modules', exclude)]];
  return exclude.map((text) => [text, byName(text)]);
}

/** Refuses layers that no target is in, and targets that are in no layer: PEFT leaves both out in silence. */
function checkLayers(
  { layersToTransform, layersPattern, targetModules }: TargetChoice,
  matched: Site[],
): void {
  if (!layersToTransform?.length) return;
  const layerOf = layerNumber('layers_pattern', layersPattern);
  const layers = new Set(matched.flatMap(({ name }) => layerOf(name) ?? []));
  if (layers.size === 0)
    throw new UserError(`layers_pattern ${layersPattern?.join(', ')} fits no target's name`);
  const unknown = layersToTransform.find((layer) => !layers.has(layer));
  if (unknown !== undefined) {
    const range = `${Math.min(...layers)} to ${Math.max(...layers)}`;
    throw new UserError(`layers_to_transform ${unknown}: the targets are in layers ${range}`);
  }
  const outside = matched.find(({ name }) => layerOf(name) === undefined && !targetModules.includes(name));
  if (outside) {
    throw new UserError(
      `layers_to_transform: target ${outside.name} is in none of the layers; name it in full, or leave it out`,
    );
  }
}

type Kind = Site['kind'];
const byName =
  (target: string): NameTest =>
  (name) =>
    name === target || name.endsWith(`.${target}`);

/** What a target is told by; a role that is not known is none that matters. */
type TargetName = Pick<Site, 'name' | 'kind'> & { role?: Role };

function namedBy(target: TargetModules): (site: TargetName) => boolean {
  if (target === 'all-linear') return isInnerLinear;
  if (typeof target === 'string') {
    const test = wholeName('target_modules', target);
    return ({ name }) => test(name);
  }
  const tests = target.filter((text) => !isRole(text)).map(byName);
  const roles = new Set(target.filter(isRole).flatMap((role) => [role, ...(FUSED_IN[role] ?? [])]));
  return ({ name, role }) => tests.some((test) => test(name)) || (role !== undefined && roles.has(role));
}

/** The matrix that a model may have for several roles: PEFT's default for GPT-2 and Phi-3 is it, too. */
const FUSED_IN: Partial<Record<Role, readonly Role[]>> = {
  'attention.q': ['attention.qkv'],
  'attention.k': ['attention.qkv'],
  'attention.v': ['attention.qkv'],
  'mlp.gate': ['mlp.gate_up'],
  'mlp.up': ['mlp.gate_up'],
};

function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}

/**
 * A choice with targets by the model's own names, as PEFT's files have them: roles, which PEFT does not know, and
 * "all-linear" beside numbers of layers, which PEFT takes with names only, or of a model with routers.
 */
export function namedTargets<C extends TargetChoice>(c: C, sites: readonly Site[]): C {
  const wanted = matchTargets(c.targetModules, sites, ['linear', 'embedding']);
  if (wanted.some(({ layout }) => layout === 'conv1d'))
    return { ...withNames(c, wanted, sites), fanInFanOut: true };
  return withNames(c, wanted, sites);
}

function withNames<C extends TargetChoice>(c: C, wanted: readonly Site[], sites: readonly Site[]): C {
  const { targetModules: target, layersToTransform } = c;
  const listed = typeof target !== 'string';
  // PEFT's "all-linear" has routers, too.
  const isOther = layersToTransform !== undefined || sites.some(({ role }) => role === 'router');
  if (listed ? !target.some(isRole) : !(target === 'all-linear' && isOther)) return c;
  const named = listed ? target.filter((text) => !isRole(text)) : [];
  const left = wanted.filter((site) => !namedBy(named)(site));
  return {
    ...c,
    targetModules: [...named, ...new Set(left.map((site) => shortestName(site, wanted, sites)))],
  };
}

/** The last parts of a site's name, as few as name none but `wanted`. */
function shortestName({ name }: Site, wanted: readonly Site[], sites: readonly Site[]): string {
  const parts = name.split('.');
  for (let from = parts.length - 1; from > 0; from--) {
    const end = parts.slice(from).join('.');
    const test = byName(end);
    if (sites.every((site) => !test(site.name) || wanted.includes(site))) return end;
  }
  return name;
}

/**
 * The sites that `target` names, as PEFT matches: a listed name is a site's full name or its last parts ("q_proj",
 * "self_attn.q_proj"), or beyond PEFT a role ("attention.q"), alike for every model: one matrix for q, k and v has the
 * roles of all three. A string is a regular expression for the full name; "all-linear" is every linear layer but the LM
 * head. Throws UserError that lists what there is when a target of the `option` matches nothing of `kinds`.
 */
export function matchTargets(
  target: TargetModules,
  sites: readonly Site[],
  kinds: readonly Kind[] = ['linear'],
  option = 'target_modules',
): Site[] {
  const fitting = sites.filter((s) => kinds.includes(s.kind));
  if (typeof target === 'string') {
    const matched = fitting.filter(namedBy(target));
    if (matched.length > 0 || target === 'all-linear') return matched;
    throw new UserError(`${option} "${target}" matches no layer; ${available(fitting)}`);
  }
  if (target.length === 0) throw new UserError(`${option} is empty; ${available(fitting)}`);
  for (const t of target) {
    const named = namedBy([t]);
    if (fitting.some(named)) continue;
    if (sites.some(named)) throw new UserError(`${option} "${t}" is an embedding; ${available(fitting)}`);
    const guess = nearest(t, lastNames(fitting));
    throw new UserError(
      `${option} "${t}" matches no layer${guess ? `; did you mean "${guess}"?` : ''}; ${available(fitting)}`,
    );
  }
  return fitting.filter(namedBy(target));
}

function lastNames(sites: readonly Site[]): string[] {
  return [...new Set(sites.map((s) => s.name.slice(s.name.lastIndexOf('.') + 1)))];
}

function available(sites: readonly Site[]): string {
  return `there are ${lastNames(sites).join(', ')}, or "all-linear"`;
}
