import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { add, matmul, mul } from '../graph/ops/index.js';
import { languageModel } from '../models/architecture.js';
import { snakeKeys } from './keys.js';
import { numbersOf, numbersText } from './layerOptions.js';
import {
  fromPeft,
  type LoraConfig,
  lora,
  loraMatrices,
  loraOptions,
  scaleOf,
  selectLora,
  toPeft,
} from './lora.js';
import type { Method } from './method.js';

/** aLoRA's options: LoRA's, and PEFT's name for the tokens that call it. */
export interface AloraConfig extends LoraConfig {
  aloraInvocationTokens: readonly number[];
}

const tokens = z.array(z.int().nonnegative()).min(1);
const options = loraOptions.extend({
  alora_invocation_tokens: z
    .union([tokens, numbersText], 'expected token ids, as 5,17')
    .optional()
    .describe('aLoRA: ids of the tokens that call the adapter, as 5,17'),
});

/**
 * aLoRA (Greenewald et al., arXiv:2504.12397): LoRA that takes part only from the last occurrence of its invocation tokens on.
 * What is before them is computed as by the base, whose keys and values it can go on from. A row without them is the base's.
 */
export const alora: Method<AloraConfig> = {
  ...lora,
  name: 'alora',
  card: {
    title: 'aLoRA',
    paper: 'arXiv:2504.12397',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank r a target, from the invocation on',
    merges: false,
    peft: 'LORA with alora_invocation_tokens',
  },
  options,

  parse(place, config) {
    const { alora_invocation_tokens: given, ...rest } = checkJson(place, snakeKeys(config), options);
    const aloraInvocationTokens = numbersOf(given);
    if (!aloraInvocationTokens) {
      throw new UserError(
        `${place}: alora needs alora_invocation_tokens, the ids of the tokens that call it`,
      );
    }
    const parsed = lora.parse(place, rest);
    if (parsed.loraBias) throw new UserError(`${place}: lora_bias is not for alora`);
    return { ...parsed, aloraInvocationTokens };
  },

  resolve(c, model) {
    // What calls it changes what comes behind, so each position may see only what is before.
    languageModel(model.network, 'takes no aLoRA, as in PEFT; take lora');
    return lora.resolve!(c, model);
  },

  select(c, model) {
    const vocabulary = model.sites.find(({ kind }) => kind === 'embedding');
    const unknown = c.aloraInvocationTokens.find((id) => vocabulary && id >= vocabulary.in);
    if (unknown !== undefined) {
      throw new UserError(`alora_invocation_tokens: ${unknown} is no token below ${vocabulary!.in}`);
    }
    return selectLora(c, model, (_, site) => {
      if (site.expert !== undefined) {
        throw new UserError(
          `alora has to see all tokens of a row, and ${site.name} is in an expert, which sees some; name other targets`,
        );
      }
      if (site.kind === 'linear' && site.role !== 'head') return loraMatrices(c, site);
      throw new UserError(`alora is for the linear layers inside the model, and ${site.name} is none`);
    });
  },

  toPeft: (c) => ({ ...toPeft(c), alora_invocation_tokens: [...c.aloraInvocationTokens] }),
  fromPeft(peft, sites) {
    if (peft.peft_type !== 'LORA' || !peft.alora_invocation_tokens) return undefined;
    return { ...fromPeft(peft, sites), aloraInvocationTokens: peft.alora_invocation_tokens };
  },

  invocation: (c) => c.aloraInvocationTokens,

  linear(c, { site, param, active, dropped }, y) {
    const { x, scale } = dropped(c.loraDropout);
    const u = mul(matmul(x, param('lora_A'), { transB: true }), active());
    return add(y, matmul(u, param('lora_B'), { transB: true, alpha: scaleOf(c, site) * scale }));
  },

  embedding: undefined,
  factors: undefined,
  mergeBias: undefined,
  merge() {
    throw new UserError(
      'aLoRA changes only the tokens from its invocation on, so it is in no matrix of the model and cannot be merged: generate and ' +
        'eval take it as it is; of what merges, lora is nearest',
    );
  },

  onStep({ aloraInvocationTokens }, { step, grads }) {
    // B starts at zero, and has a gradient wherever the adapter takes part.
    if (step > 1 || [...grads.values()].some(({ data }) => data.some((x) => x !== 0))) return;
    throw new UserError(
      `no row of the first step has alora_invocation_tokens ${aloraInvocationTokens.join(',')}, without which the adapter takes no part`,
    );
  },
};
