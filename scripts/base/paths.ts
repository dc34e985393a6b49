import { join } from 'node:path';

/** Where the steps leave their files; commands run in the repository's root. */
const CACHE = '.cache/base';
export const PACKAGES = join(CACHE, 'packages');
export const TRAIN_TEXT = join(CACHE, 'train.txt');
export const VALID_TEXT = join(CACHE, 'valid.txt');
export const TRAIN_TOKENS = join(CACHE, 'train.bin');
/** Index cards made of the training text; see cards.ts. */
export const CARD_TOKENS = join(CACHE, 'cards.bin');
export const VALID_TOKENS = join(CACHE, 'valid.bin');
/** The model before training: config.json, tokenizer and random weights. */
export const INIT_FOLDER = join(CACHE, 'init');
/** Checkpoints and the log of pre-training. */
export const RUN_FOLDER = join(CACHE, 'run');
/** What ships. */
export const BASE_FOLDER = 'assets/base';
export const DEMO_FOLDER = 'assets/demo';
