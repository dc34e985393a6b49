/** The layers that llama.cpp's LoRA adapters are for. */
import { describeLoraGguf, type LoraBase, loraBase } from '../../formats/gguf/lora.js';
import { Metadata } from '../../formats/gguf/metadata.js';
import type { Gguf } from '../../formats/gguf/reader.js';
import type { Described } from '../shape.js';
import { describe } from '../shape.js';
import { architectureNamed, ggufNames } from './file.js';
import type { GgufForm } from './form.js';
import { ggufWeights } from './weights.js';

/** The layers of a model as llama.cpp has them. `place` names it in errors. */
export function loraBaseOf(place: string, form: GgufForm, described: Described): LoraBase {
  return loraBase(place, form.name, described.config.vocabSize, ggufWeights(described, form));
}

/** As describeLoraGguf, by the architecture that the file names. Throws UserError for one that is not known. */
export function describeAdapterGguf(gguf: Gguf): ReturnType<typeof describeLoraGguf> {
  const meta = new Metadata(gguf);
  const name = meta.string('general.architecture');
  const architecture =
    architectureNamed(name) ??
    meta.fail(`adapters for "${name}" are not read, expected one of ${ggufNames.join(', ')}`);
  // Any model of the architecture has the names; the number of the layer is all that differs between them.
  const described = describe(architecture.parse(gguf.path, { model_type: architecture.modelType }));
  const { layers } = described.network.names;
  const sites = new Map(
    [...loraBaseOf(gguf.path, architecture.gguf, described).layers].map(([site, { tensor }]) => [
      tensor,
      site,
    ]),
  );
  return describeLoraGguf(gguf, name, (tensor) => {
    const [, layer] = /^blk\.(\d+)\./.exec(tensor) ?? [];
    const first = sites.get(tensor.replace(/^blk\.\d+/, 'blk.0'));
    return layer === undefined ? first : first?.replace(`${layers}0.`, `${layers}${layer}.`);
  });
}
