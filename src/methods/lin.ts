import { bottleneckMethod } from './bottleneck.js';

/** AdapterL (Lin et al., arXiv:2004.03829): one adapter layer a block, behind the MLP, with a LayerNorm of its own. */
export const lin = bottleneckMethod({
  name: 'lin',
  peftType: 'LOWRANK_LIN',
  card: {
    title: 'Lin adapters (AdapterL)',
    paper: 'arXiv:2004.03829',
    parameters: '2·d·r + r + d and 2·d a layer',
  },
  behind: ['mlp.down'],
  normalizes: true,
});
