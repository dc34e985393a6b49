import { expect, it } from 'vitest';
import { rankLines } from './ranks.js';

it('shows the ranks of each kind of layer, and what they can follow of the gradient', () => {
  const choices = [
    { site: 'model.layers.0.self_attn.q_proj', r: 1, parameters: 9, spectrum: [3, 1], whole: 4 },
    { site: 'model.layers.0.mlp.up_proj', r: 2, parameters: 9, spectrum: [1, 1], whole: 2 },
    { site: 'model.layers.1.self_attn.q_proj', r: 0, parameters: 0, spectrum: [1, 1], whole: 2 },
  ];
  expect(rankLines({ choices })).toEqual(['q_proj    50.0%  1 -', 'up_proj    100%  2']);
});
