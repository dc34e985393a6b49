"""A GGUF file with all its tensors dequantized to F32, for comparing to the last digits what llama.cpp and lowrank compute.

    python scripts/parity/gguf_f32.py model.Q4_1.gguf model.F32.gguf

Needs the gguf package (0.19.0 was used).
"""

import sys

import gguf
import numpy as np

WRITTEN_BY_GGUF = {"general.architecture", "general.file_type", "general.quantization_version"}

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
writer.add_file_type(gguf.LlamaFileType.ALL_F32)
for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name in WRITTEN_BY_GGUF:
        continue
    kind = field.types[0]
    element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
for tensor in reader.tensors:
    values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    writer.add_tensor(tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
