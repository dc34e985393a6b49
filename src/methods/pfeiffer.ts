import { bottleneckMethod } from './bottleneck.js';

/** AdapterP (Pfeiffer et al., arXiv:2005.00247): one adapter layer a block, behind the MLP. */
export const pfeiffer = bottleneckMethod({
  name: 'pfeiffer',
  peftType: 'LOWRANK_PFEIFFER',
  card: {
    title: 'Pfeiffer adapters (AdapterP)',
    paper: 'arXiv:2005.00247',
    parameters: '2·d·r + r + d a layer',
  },
  behind: ['mlp.down'],
  normalizes: false,
});
