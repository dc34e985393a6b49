import ort from 'onnxruntime-node';
import type { HostTensor } from '../../base/tensor.js';
import type { Feeds, SessionOptions } from './session.js';

// What fails is thrown; the engine's own lines beside it tell a reader nothing more.
ort.env.logLevel = 'fatal';

/** What crosses the thread boundary to load a graph. */
export interface LoadRequest extends SessionOptions {
  bytes: Uint8Array;
}

/** An ONNX Runtime session in this thread. `run` blocks the event loop: use it inside a worker, or in tests. */
export async function createOrtSession(request: LoadRequest): Promise<ort.InferenceSession> {
  const { bytes, device = 'cpu', weightsFolder, threads, prepack = false, profile } = request;
  return ort.InferenceSession.create(bytes, {
    executionProviders: device === 'cpu' ? ['cpu'] : [device, 'cpu'],
    ...(threads !== undefined && { intraOpNumThreads: threads }),
    // The memory pattern reserves 1.6 times as much for no speed (docs/architecture.md, "Memory").
    enableMemPattern: false,
    ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
    logSeverityLevel: 3,
    extra: {
      session: {
        disable_prepacking: prepack ? '0' : '1',
        ...(weightsFolder && { model_external_initializers_file_folder_path: weightsFolder }),
      },
    },
  });
}

export async function runOrt(session: ort.InferenceSession, feeds: Feeds): Promise<Feeds> {
  const inputs: Record<string, ort.Tensor> = {};
  for (const [name, t] of Object.entries(feeds)) inputs[name] = new ort.Tensor(t.dtype, t.data, t.dims);
  const results = await session.run(inputs);
  const outputs: Feeds = {};
  for (const [name, t] of Object.entries(results)) {
    outputs[name] = { dtype: t.type, dims: t.dims, data: t.data } as HostTensor;
  }
  return outputs;
}

export async function releaseOrt(session: ort.InferenceSession): Promise<void> {
  session.endProfiling();
  await session.release();
}
