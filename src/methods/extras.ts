/** What PEFT's adapters train beside the matrices of their targets: biases, full copies of modules, rows of embeddings. */
import { UserError } from '../base/errors.js';
import { isSavedModule } from '../formats/peftConfig.js';

import { matrixName } from '../models/model.js';
import type { Outline } from '../models/shape.js';
import type { Trainable } from './method.js';
import { moduleOf } from './modelTensors.js';

export interface Extras {
  /** Which of the model's own biases train: all, or those of the targets. */
  bias: 'none' | 'all' | 'lora_only';
  /** Ends of names of modules that train whole, each in a copy of its own. */
  modulesToSave?: readonly string[];
  /** Of a tied pair, a full copy is of both. As PEFT has it, and only in what it wrote. */
  ensureWeightTying?: boolean;
  /** Rows that train of the input embedding, or of each module named. */
  trainableTokenIndices?: readonly number[] | Readonly<Record<string, readonly number[]>>;
}

type Shapes = Pick<Outline, 'sites' | 'parameters'>;

/** `targets` are the names of the adapted sites. Throws UserError where an option names nothing, or what is adapted. */
export function extraTrainables(c: Extras, model: Shapes, targets: ReadonlySet<string>): Trainable[] {
  const copies = copiesOf(c, model, targets);
  const copied = new Set(copies.map((t) => t.name));
  const biases = [...model.parameters].filter(([name]) => {
    if (!name.endsWith('.bias') || copied.has(name)) return false;
    return c.bias === 'all' || (c.bias === 'lora_only' && targets.has(moduleOf(name)));
  });
  const busy = new Set([...targets, ...[...copied].map(moduleOf)]);
  return [
    ...copies,
    ...biases.map(([name, shape]): Trainable => ({ name, shape, init: null })),
    ...rowsOf(c.trainableTokenIndices, model, busy),
  ];
}

/**
 * Copies of the tensors of the modules that are named. A tied head has one, too: it starts as the embedding, unless it is to
 * stay tied.
 */
function copiesOf(
  { modulesToSave: ends = [], ensureWeightTying = false }: Extras,
  { sites, parameters }: Shapes,
  targets: ReadonlySet<string>,
) {
  const tied = sites.flatMap((s) =>
    s.tiedTo === undefined ? [] : [{ name: `${s.name}.weight`, tensor: `${s.tiedTo}.weight` }],
  );
  const all = [...[...parameters.keys()].map((name) => ({ name, tensor: name })), ...tied];
  for (const end of ends) {
    if (all.some(({ name }) => isSavedModule([end], moduleOf(name)))) continue;
    const last = [...new Set(all.map(({ name }) => moduleOf(name).split('.').at(-1)))];
    throw new UserError(`modules_to_save "${end}" names no module; there are ${last.join(', ')}`);
  }
  return all
    .filter(({ name }) => isSavedModule(ends, moduleOf(name)))
    .map(({ name, tensor }): Trainable => {
      if (targets.has(moduleOf(name))) {
        throw new UserError(`modules_to_save and target_modules both name ${moduleOf(name)}`);
      }
      if (sites.some((site) => site.layout === 'conv1d' && `${site.name}.weight` === name)) {
        throw new UserError(
          `modules_to_save: ${moduleOf(name)} is stored as [in, out], and copies of such layers are not supported; target it instead`,
        );
      }
      const shape = parameters.get(tensor)!;
      if (ensureWeightTying && tied.some((head) => head.tensor === name)) return { name, shape, init: null };
      return { name, shape, init: null, replaces: { tensor } };
    });
}

/**
 * Rows of embeddings and heads; a tied head's are its own alone, unless they are those of its embedding. `busy` are modules
 * that train otherwise.
 */
function rowsOf(
  indices: Extras['trainableTokenIndices'],
  { sites, parameters }: Shapes,
  busy: ReadonlySet<string>,
): Trainable[] {
  if (indices === undefined) return [];
  const byModule = isList(indices) ? { embed_tokens: indices } : indices;
  const siteOf = (end: string) => sites.find((s) => s.name === end || s.name.endsWith(`.${end}`));
  const listed = new Map(Object.entries(byModule).map(([end, rows]) => [siteOf(end)?.name, rows]));
  // As in PEFT: equal lists for both of a tied pair are one.
  const own = Object.entries(byModule).filter(([end, rows]) => {
    const shared = listed.get(siteOf(end)?.tiedTo);
    return shared === undefined || String(shared) !== String(rows);
  });
  return own.map(([end, rows]): Trainable => {
    const refuse = (why: string) => new UserError(`trainable_token_indices of "${end}": ${why}`);
    const site = siteOf(end);
    if (!site || (site.kind === 'linear' && site.role !== 'head')) {
      throw refuse('there are embed_tokens and lm_head');
    }
    const sharing = sites.filter((s) => s.name === site.name || s.tiedTo === site.name);
    const tensor = matrixName(site);
    const twice = sharing.find((s) => busy.has(s.name));
    if (twice) throw refuse(`${twice.name} is adapted or trained whole already`);
    const [vocab, width] = parameters.get(tensor)!;
    const wrong = rows.find((row, i) => row >= vocab || rows.indexOf(row) !== i);
    if (wrong !== undefined) throw refuse(`${wrong} is no token below ${vocab}, or named twice`);
    if (rows.length === 0) throw refuse('no token is named');
    return {
      name: `${site.name}.trainable_tokens_delta`,
      shape: [rows.length, width],
      init: null,
      replaces: { tensor, rows },
    };
  });
}

function isList(indices: NonNullable<Extras['trainableTokenIndices']>): indices is readonly number[] {
  return Array.isArray(indices);
}
