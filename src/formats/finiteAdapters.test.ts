import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { encodeF32 } from './float16.js';
import { type LoraBase, readLoraGguf, writeLoraGguf } from './gguf/lora.js';
import { readMlxAdapter } from './mlx.js';
import { readOwnTensors, writeOwnAdapter } from './ownAdapter.js';
import { type AdapterFiles, readAdapter, writeAdapter } from './peft.js';
import { peftLoraConfig } from './peftConfig.js';
import { writeSafetensors } from './safetensors.js';

// Adapters with NaN or infinity in them are neither read nor written.

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-finite-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const site = 'model.layers.0.self_attn.q_proj';
const base: LoraBase = {
  place: 'base',
  architecture: 'qwen2',
  vocabSize: 8,
  layers: new Map([[site, { tensor: 'blk.0.attn_q.weight', in: 4, out: 4 }]]),
};
const MARK = 0.625;
const MARK_BYTES = Buffer.from(Float32Array.of(MARK).buffer);

/** Rank 2, with some values of B as given. */
function adapterWith(...bad: number[]): AdapterFiles {
  const b = new Float32Array(8).fill(0.5);
  b.set(bad, 1);
  const tensors = new Map([
    [`${site}.lora_A`, { shape: [2, 4], data: new Float32Array(8).fill(0.25) }],
    [`${site}.lora_B`, { shape: [4, 2], data: b }],
  ]);
  return { config: peftLoraConfig({ r: 2, target_modules: ['q_proj'] }), tensors };
}

/** Puts a value in place of the marked one in a file. */
async function poison(path: string, value: number): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.indexOf(MARK_BYTES);
  expect(at).toBeGreaterThan(0);
  bytes.writeFloatLE(value, at);
  await writeFile(path, bytes);
}

const found = '1 of its 8 values is NaN or infinite';
const bad = [
  ['NaN', Number.NaN],
  ['infinity', Number.POSITIVE_INFINITY],
  ['-infinity', -Infinity],
] as const;

describe.each(bad)('%s', (name, value) => {
  const folder = async (what: string) => {
    const path = join(dir, `${what}-${name}`);
    await mkdir(path);
    return path;
  };

  it('in a PEFT folder', async () => {
    const at = await folder('peft');
    const { config, tensors } = adapterWith(MARK);
    await writeAdapter(at, config, tensors);
    const path = join(at, 'adapter_model.safetensors');
    await poison(path, value);
    await expect(readAdapter(at)).rejects.toThrow(
      new UserError(`${path}: tensor "base_model.model.${site}.lora_B.weight": ${found}`),
    );
    const twice = adapterWith(value, 1, value).tensors;
    await expect(writeAdapter(at, config, twice)).rejects.toThrow(
      new UserError(
        `cannot write ${path}: tensor "base_model.model.${site}.lora_B.weight": 2 of its 8 values are NaN or infinite`,
      ),
    );
  });

  it('in an mlx-lm folder', async () => {
    const at = await folder('mlx');
    const path = join(at, 'adapters.safetensors');
    const values = (v: number) => encodeF32(new Float32Array(8).fill(v), 'float32');
    await writeSafetensors(
      path,
      [
        { name: `${site}.lora_a`, dtype: 'F32', shape: [4, 2], data: () => values(0.25) },
        { name: `${site}.lora_b`, dtype: 'F32', shape: [2, 4], data: () => values(MARK) },
      ],
      {},
    );
    const lora_parameters = { rank: 2, scale: 1 };
    await writeFile(join(at, 'adapter_config.json'), JSON.stringify({ lora_parameters }));
    await poison(path, value);
    await expect(readMlxAdapter(at)).rejects.toThrow(
      new UserError(`${path}: tensor "${site}.lora_b": ${found}`),
    );
  });

  it("in llama.cpp's file", async () => {
    const path = join(dir, `${name}.gguf`);
    await writeLoraGguf(path, 'mine', adapterWith(MARK), base);
    await poison(path, value);
    await expect(readLoraGguf(path, base)).rejects.toThrow(
      new UserError(`${path}: tensor "blk.0.attn_q.weight.lora_b": ${found}`),
    );
    const other = join(dir, `${name}-2.gguf`);
    await expect(writeLoraGguf(other, 'mine', adapterWith(value), base)).rejects.toThrow(
      `cannot write ${other}: tensor "blk.0.attn_q.weight.lora_b": ${found}`,
    );
  });

  it('in a folder of a form of our own', async () => {
    const at = await folder('own');
    const config = { peft_type: 'PREFIX_TUNING', base_model_name_or_path: null };
    const data = new Float32Array(8).fill(1);
    data[3] = MARK;
    await writeOwnAdapter(at, config, new Map([['prompt', { shape: [8], data }]]));
    const path = join(at, 'adapter_model.safetensors');
    await poison(path, value);
    await expect(readOwnTensors(at)).rejects.toThrow(new UserError(`${path}: tensor "prompt": ${found}`));
    data[3] = value;
    await expect(writeOwnAdapter(at, config, new Map([['prompt', { shape: [8], data }]]))).rejects.toThrow(
      `cannot write ${path}: tensor "prompt": ${found}`,
    );
  });
});
