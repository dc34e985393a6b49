/** What a GGUF file calls a model's tensors, by what they do in the network. */
import type { GgufWeight } from '../../formats/gguf/rows.js';
import type { NormRole, Role, Site } from '../model.js';
import { type Described, transposedIn } from '../shape.js';
import type { GgufForm } from './form.js';

/** The tensors of sites; those of layers have `blk.N.` before them. Roles that decoders lack are not here. */
const SITES: Partial<Record<Role, string>> = {
  embedding: 'token_embd',
  positions: 'position_embd',
  head: 'output',
  'attention.q': 'attn_q',
  'attention.k': 'attn_k',
  'attention.v': 'attn_v',
  'attention.qkv': 'attn_qkv',
  'attention.o': 'attn_output',
  'mlp.gate': 'ffn_gate',
  'mlp.up': 'ffn_up',
  'mlp.gate_up': 'ffn_up',
  'mlp.down': 'ffn_down',
  router: 'ffn_gate_inp',
};

const NORMS: Record<NormRole, string> = {
  'attention.norm': 'attn_norm',
  'attention.post_norm': 'post_attention_norm',
  'attention.q_norm': 'attn_q_norm',
  'attention.k_norm': 'attn_k_norm',
  'mlp.norm': 'ffn_norm',
  'mlp.post_norm': 'post_ffw_norm',
  norm: 'output_norm',
};

/** The tensors of a model as llama.cpp has them: every parameter of its network, by what it does there. */
export function ggufWeights(
  { config, sites, parameters, norms, network }: Described,
  form: GgufForm,
): GgufWeight[] {
  const places = new Map<string, { name: string; layer?: number; site?: Site }>();
  for (const site of sites) {
    const name = SITES[site.role];
    if (site.tiedTo || name === undefined) continue;
    for (const part of ['weight', 'bias'])
      places.set(`${site.name}.${part}`, { name, layer: site.layer, site });
  }
  for (const [name, { role, layer }] of norms) places.set(name, { name: NORMS[role], layer });
  const transposed = transposedIn(sites);
  const kindOf = ({ role, layer }: Site) => `${layer} ${role}`;
  const counts = new Map<string, number>();
  for (const site of sites.filter(({ expert }) => expert !== undefined))
    counts.set(kindOf(site), (counts.get(kindOf(site)) ?? 0) + 1);
  const weights = [...parameters].map(([hf, shape]): GgufWeight => {
    const place = places.get(hf);
    if (!place) throw new Error(`${hf} has no place in a GGUF file`);
    const { name, layer, site } = place;
    const rows = site && form.rows?.(config, site.role);
    const part =
      site?.expert === undefined ? undefined : { index: site.expert, of: counts.get(kindOf(site))! };
    return {
      gguf: `${layer === undefined ? '' : `blk.${layer}.`}${name}${part ? '_exps' : ''}${hf.slice(hf.lastIndexOf('.'))}`,
      hf,
      shape,
      isLinear: site?.kind === 'linear' && shape.length === 2,
      ...(rows && { rows }),
      ...(part && { part }),
      ...(!site && form.normOffset !== undefined && { offset: form.normOffset }),
      ...(transposed.has(hf) && { isTransposed: true }),
      ...((site?.role === 'positions' || site?.role === 'router') && { isExact: true }),
    };
  });
  if (form.head !== 'own' || !config.tieWordEmbeddings) return weights;
  const { embedding, head } = network.names;
  const shape = parameters.get(`${embedding}.weight`)!;
  return [...weights, { gguf: 'output.weight', hf: `${head}.weight`, shape, isLinear: true }];
}
