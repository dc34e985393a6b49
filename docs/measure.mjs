// The measurements that docs/architecture.md quotes. After `npm run build`, with a model folder:
//   node docs/measure.mjs graph   FOLDER   nodes of the training graph, before and after the rewrites
//   node docs/measure.mjs session FOLDER   time to load it, with and without value_info
//   node docs/measure.mjs memory  FOLDER   peak memory of a step, with the memory pattern off and on
//   node docs/measure.mjs weights FOLDER   what of the weights is a file mapping and what a copy
//   node docs/measure.mjs shared           whether the engine takes memory shared between threads
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import ort from 'onnxruntime-node';
import { ModelProtoSchema } from '../dist/formats/onnx/onnx-ml_pb.js';
import { compile } from '../dist/graph/emit.js';
import { add, crossEntropy, expandTo, gather, input } from '../dist/graph/ops/index.js';
import { rewrite } from '../dist/graph/rewrite.js';
import { runOrt } from '../dist/graph/runtime/ort.js';
import { reachable } from '../dist/graph/tensor.js';
import { gradients } from '../dist/graph/vjp.js';
import { adaptedSites, createAdapter } from '../dist/methods/adapter.js';
import { methodNamed } from '../dist/methods/index.js';
import { openModel } from '../dist/models/base.js';
import { decoder, lmHead } from '../dist/models/decoder.js';
import { trainingStream } from '../dist/models/shape.js';
import { TrainStep } from '../dist/train/step.js';

const [what, folder, setting] = process.argv.slice(2);
const TOKENS = 1024;

/** LoRA with r=8 on all linear layers of a model. */
async function job() {
  const model = await openModel(folder);
  const lora = methodNamed('lora');
  const config = lora.parse('measure', { r: 8, targetModules: 'all-linear' });
  return { model, adapter: await createAdapter(lora, config, model) };
}

/** A runtime in this thread, whose session options can be changed. */
function runtimeWith(extra, seen = () => {}) {
  return {
    async load(graph, { weightsFolder }) {
      seen(graph);
      const session = await ort.InferenceSession.create(graph.bytes, {
        enableMemPattern: false,
        ...extra,
        logSeverityLevel: 3,
        extra: {
          session: {
            disable_prepacking: '1',
            ...(weightsFolder && { model_external_initializers_file_folder_path: weightsFolder }),
          },
        },
      });
      return { run: (feeds) => runOrt(session, feeds), close: () => session.release() };
    },
  };
}

const measurements = {
  async graph() {
    const { model, adapter } = await job();
    const { sites, params } = adaptedSites(model, adapter, true);
    const hidden = decoder(model.config, sites, trainingStream(model.config));
    const logits = lmHead(model.config, sites, gather(hidden, input('rows', 'int32', ['targets'])));
    const losses = crossEntropy(logits, input('targetIds', 'int32', ['targets']));
    const seed = expandTo(input('scale', 'float32', []), losses);
    const roots = [losses, ...gradients(losses, seed, [...params.values()])];
    console.log(`op nodes: forward ${reachable([losses]).length}, with gradients ${reachable(roots).length}`);
    console.log(`op nodes after the rewrites: ${reachable(rewrite(roots)).length}`);
    let onnx = 0;
    await TrainStep.create(
      runtimeWith({}, (graph) => (onnx = graph.nodeCount)),
      model,
      adapter,
    );
    console.log(`ONNX nodes: ${onnx}`);
  },

  async session() {
    const { model, adapter } = await job();
    let bytes;
    await TrainStep.create(
      runtimeWith({}, (graph) => (bytes = graph.bytes)),
      model,
      adapter,
    );
    const proto = fromBinary(ModelProtoSchema, bytes);
    const stripped = create(ModelProtoSchema, { ...proto, graph: { ...proto.graph, valueInfo: [] } });
    const models = { 'with value_info': bytes, without: toBinary(ModelProtoSchema, stripped) };
    for (let round = 1; round <= 3; round++) {
      for (const [name, model_] of Object.entries(models)) {
        const started = performance.now();
        const step = await runtimeWith({}).load({ bytes: model_ }, { weightsFolder: model.weightsFolder });
        console.log(`${name}: ${((performance.now() - started) / 1000).toFixed(2)} s`);
        await step.close();
      }
    }
  },

  async memory() {
    if (!setting) {
      for (const pattern of ['off', 'on']) {
        const args = [fileURLToPath(import.meta.url), 'memory', folder, pattern];
        process.stdout.write(execFileSync(process.execPath, args, { encoding: 'utf8' }));
      }
      return;
    }
    const { model, adapter } = await job();
    const step = await TrainStep.create(runtimeWith({ enableMemPattern: setting === 'on' }), model, adapter);
    const ids = Int32Array.from({ length: TOKENS }, (_, i) => (i * 7919) % model.config.vocabSize);
    const every = Int32Array.from(ids, (_, i) => i);
    const rows = TOKENS / 256;
    const micro = {
      rows,
      length: 256,
      ids,
      lengths: Int32Array.of(256, 256),
      targetRows: every,
      targetIds: ids,
    };
    for (let i = 0; i < 3; i++) await step.run(micro, 1 / TOKENS);
    const peak = (process.resourceUsage().maxRSS / 1024).toFixed(0);
    console.log(`memory pattern ${setting}: peak ${peak} MiB at ${TOKENS} tokens`);
  },

  async weights() {
    const { model, adapter } = await job();
    const resident = () =>
      Object.fromEntries(
        [...readFileSync('/proc/self/status', 'utf8').matchAll(/^Rss(Anon|File):\s+(\d+) kB/gm)].map(
          ([, kind, kb]) => [kind, kb / 1024],
        ),
      );
    const before = resident();
    await TrainStep.create(runtimeWith({}), model, adapter);
    const after = resident();
    const stored = [...model.checkpoint.tensors.values()].reduce((n, t) => n + t.length, 0) / 2 ** 20;
    console.log(`weights on disk: ${stored.toFixed(0)} MiB`);
    console.log(`mapped:    ${(after.File - before.File).toFixed(0)} MiB more than before the session`);
    console.log(`allocated: ${(after.Anon - before.Anon).toFixed(0)} MiB more`);
  },

  async shared() {
    const x = input('x', 'float32', [4]);
    const session = await runtimeWith({}).load(compile({ y: add(x, x) }), {});
    for (const Memory of [ArrayBuffer, SharedArrayBuffer]) {
      const data = new Float32Array(new Memory(16));
      const answer = await session.run({ x: { dtype: 'float32', dims: [4], data } }).then(
        () => 'taken',
        (error) => `refused: ${error.message}`,
      );
      console.log(`${Memory.name}: ${answer}`);
    }
  },
};

await measurements[what]();
