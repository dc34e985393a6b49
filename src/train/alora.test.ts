import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { openModel } from '../models/base.js';
import { trainLoop } from './loop.js';
import { causalLm } from './objectives/causalLm.js';
import { parseTrainOptions } from './options.js';

const alora = methodNamed('alora');
const runtime = new NodeRuntime();
afterAll(() => runtime.close());

it('trains nothing in silence: rows that never call it are refused', async () => {
  const base = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/qwen2', import.meta.url)));
  const examples = [3, 4].map((id, line) => ({
    ids: Int32Array.of(id, id, id, id),
    supervised: Uint8Array.of(0, 1, 1, 1),
    line,
  }));
  const run = async (tokens: number[]) => {
    const config = alora.parse('c', { r: 2, aloraInvocationTokens: tokens });
    const adapter = await createAdapter(alora, config, base);
    const options = parseTrainOptions('o', { maxSteps: 2, batchSize: 2 });
    const job = { runtime, model: base, adapter, objective: causalLm, examples, options };
    for await (const _ of trainLoop(job));
  };
  await expect(run([9, 8])).rejects.toThrow(
    'no row of the first step has alora_invocation_tokens 9,8, without which the adapter takes no part',
  );
  await run([3, 3]);
});
