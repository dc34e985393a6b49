import { bottleneckMethod } from './bottleneck.js';

/** AdapterH (Houlsby et al., arXiv:1902.00751): two adapter layers a block, behind attention and behind the MLP. */
export const houlsby = bottleneckMethod({
  name: 'houlsby',
  peftType: 'LOWRANK_HOULSBY',
  card: {
    title: 'Houlsby adapters (AdapterH)',
    paper: 'arXiv:1902.00751',
    parameters: '2·(2·d·r + r + d) a layer',
  },
  behind: ['attention.o', 'mlp.down'],
  normalizes: false,
});
