/** ggml's tensor types that are read here, with their numbers in a GGUF file and block sizes (ggml.h). */
export const GGML_TYPES = {
  F32: { id: 0, elements: 1, bytes: 4 },
  F16: { id: 1, elements: 1, bytes: 2 },
  Q4_0: { id: 2, elements: 32, bytes: 18 },
  Q4_1: { id: 3, elements: 32, bytes: 20 },
  Q5_0: { id: 6, elements: 32, bytes: 22 },
  Q5_1: { id: 7, elements: 32, bytes: 24 },
  Q8_0: { id: 8, elements: 32, bytes: 34 },
  Q4_K: { id: 12, elements: 256, bytes: 144 },
  Q5_K: { id: 13, elements: 256, bytes: 176 },
  Q6_K: { id: 14, elements: 256, bytes: 210 },
  BF16: { id: 30, elements: 1, bytes: 2 },
} as const;

export type GgmlType = keyof typeof GGML_TYPES;

/** Element types of the weights of GGUF files that are written: those of every format, and two of ggml's own. */
export const ggufDTypes = ['float32', 'float16', 'bfloat16', 'q8_0', 'q4_0'] as const;
export type GgufDType = (typeof ggufDTypes)[number];

/** ggml's type of each, and the number that a file has for weights that are mostly of it (llama_ftype). */
export const GGUF_DTYPES = {
  float32: { type: 'F32', fileType: 0 },
  float16: { type: 'F16', fileType: 1 },
  bfloat16: { type: 'BF16', fileType: 32 },
  q8_0: { type: 'Q8_0', fileType: 7 },
  q4_0: { type: 'Q4_0', fileType: 2 },
} as const satisfies Record<GgufDType, { type: GgmlType; fileType: number }>;

export const GGML_TYPE_NAMES = Object.keys(GGML_TYPES) as readonly GgmlType[];

/** The type of that number; undefined when it is not read here. */
export function ggmlTypeOf(id: number): GgmlType | undefined {
  return GGML_TYPE_NAMES.find((name) => GGML_TYPES[name].id === id);
}

const FOREIGN: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** What to call a type number that is not read here. */
export function foreignTypeName(id: number): string {
  return FOREIGN[id] ?? `number ${id}`;
}
