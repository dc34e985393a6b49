// Where a step's time goes, from a profile that bench/step.mjs wrote. usage: node bench/profile.mjs PREFIX_….json
import { readFileSync } from 'node:fs';

const events = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const runs = events.filter((e) => e.name === 'model_run').length;
const groups = new Map();
for (const { cat, name, dur, args } of events) {
  if (cat !== 'Node' || !name.endsWith('kernel_time')) continue;
  const { key, flops } = describe(args);
  const group = groups.get(key) ?? { micros: 0, count: 0, flops: 0 };
  groups.set(key, { micros: group.micros + dur, count: group.count + 1, flops: group.flops + flops });
}
const total = [...groups.values()].reduce((sum, g) => sum + g.micros, 0);
console.log(`${(total / runs / 1000).toFixed(0)} ms a run, ${runs} runs`);
for (const [key, g] of [...groups].sort((a, b) => b[1].micros - a[1].micros).slice(0, 20)) {
  const rate = g.flops > 0 ? `${(g.flops / g.micros / 1000).toFixed(0)} GFLOP/s` : '';
  console.log(
    `${((100 * g.micros) / total).toFixed(1).padStart(5)}%  ${key.padEnd(34)} ${g.count / runs} nodes  ${rate}`,
  );
}

/** Products by what they are for, everything else by its operator. */
function describe({ op_name: op, input_type_shape: inputs, output_type_shape: outputs }) {
  if (!['MatMul', 'FusedMatMul', 'Gemm'].includes(op)) return { key: op, flops: 0 };
  const size = (dims) => dims.reduce((a, b) => a * b, 1);
  const [a, b, out] = [...inputs.slice(0, 2), outputs[0]].map((t) => Object.values(t)[0]);
  const batch = size(out.slice(0, -2));
  const inner = Math.sqrt((size(a) * size(b)) / size(out) / batch);
  const flops = 2 * size(out) * inner;
  if (out.length > 2) return { key: 'products of attention', flops };
  if (Math.max(...a, ...b) > 32_000) return { key: 'products of the LM head', flops };
  if (Math.min(...out, inner) <= 64) return { key: 'products with A and B', flops };
  return { key: 'products with frozen weights', flops };
}
