import { bertKeys } from './bert.js';
import { robertaArchitecture, robertaKeys } from './roberta.js';

/** XLM-RoBERTa: RoBERTa with a vocabulary of many languages. */
export const xlm_roberta = robertaArchitecture(
  'xlm-roberta',
  robertaKeys.extend({ vocab_size: bertKeys.shape.vocab_size }),
);
