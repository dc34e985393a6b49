/**
 * Parquet tables, a row group at a time, of which only the columns that make rows are read. Columns are decoded by
 * hyparquet's synchronous parts: its readers leave promises of a damaged file unhandled, which ends the process.
 */
import type { FileHandle } from 'node:fs/promises';
import { type FileMetaData, parquetMetadata, parquetSchema, type RowGroup, type SchemaTree } from 'hyparquet';
import { assembleNested } from 'hyparquet/src/assemble.js';
import { readColumn } from 'hyparquet/src/column.js';
import { DEFAULT_PARSERS } from 'hyparquet/src/convert.js';
import { getTreePath } from 'hyparquet/src/schema.js';
import { flatten } from 'hyparquet/src/utils.js';
import { compressors } from 'hyparquet-compressors';
import { messageOf, UserError } from '../../base/errors.js';
import { readFully, streamFile } from '../../formats/io/node.js';
import type { OnBytes } from './chunks.js';
import type { Content, Forms } from './form.js';
import { type Row, RowChecker } from './row.js';
import { columnsOfRows, rowOfRecord } from './table.js';

/** Pages have about 1 MB; one that claims far more would only take memory. */
const MAX_PAGE_BYTES = 2 ** 28;
/** A row group is held in memory; writers make them of 10⁴ to 10⁶ rows. */
const MAX_GROUP_ROWS = 50_000_000;
/** The length of the footer and the magic number, which end a file. */
const TAIL_BYTES = 8;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const parsers = {
  ...DEFAULT_PARSERS,
  stringFromBytes: (bytes: Uint8Array | undefined) => bytes && utf8.decode(bytes),
};

/** Bytes `start` to `end` of the file. */
type Slice = (start: number, end: number) => Promise<Uint8Array<ArrayBuffer>>;

/** The rows of a Parquet file. Errors name the row, from 1. Their share stands for the bytes. */
export function parquetRows<C extends Content>(
  path: string,
  forms: Forms<C>,
  onBytes?: OnBytes,
): AsyncGenerator<Row<C>, void, void> {
  return streamFile(path, async function* (handle, size) {
    const slice = slicerOf(handle, path, size);
    const checker = new RowChecker(forms, path, 'row');
    await refuseOther(handle, path, size);
    const { metadata, tree } = await reading(path, '', () => readFooter(slice, size));
    const names = tree.children.map((child) => child.element.name as unknown);
    // The reader takes a footer that leaves one out.
    if (!names.every((name) => typeof name === 'string')) {
      throw new UserError(`${path} is broken: a column of it has no name`);
    }
    const columns = columnsOfRows(forms, names, path);
    const all = metadata.row_groups.reduce((sum, group) => sum + Number(group.num_rows), 0);
    let done = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      if (!(rows >= 0 && rows <= MAX_GROUP_ROWS)) {
        throw new UserError(
          `${path} claims ${rows} rows in one row group, expected at most ${MAX_GROUP_ROWS}`,
        );
      }
      const values = await reading(path, ` (rows ${done + 1} to ${done + rows})`, () =>
        readGroup(slice, group, rows, tree, columns.names),
      );
      for (let i = 0; i < rows; i++) {
        const record = Object.fromEntries(columns.names.map((name, c) => [name, values[c][i]]));
        yield rowOfRecord(checker, columns, record, ++done);
        onBytes?.((size * done) / all, size);
      }
    }
    checker.finish();
  });
}

const MARK = 'PAR1';

async function refuseOther(handle: FileHandle, path: string, size: number): Promise<void> {
  const start = new Uint8Array(Math.min(size, MARK.length));
  await readFully(handle, path, start, 0);
  if (Buffer.from(start).toString('latin1') === MARK) return;
  throw new UserError(`${path} is not a Parquet file: it does not begin with "${MARK}"`);
}

/** Whatever the decoder stumbles over is the file's fault. */
async function reading<T>(path: string, where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${path} cannot be read as Parquet${where}: ${messageOf(error)}`);
  }
}

async function readFooter(slice: Slice, size: number): Promise<{ metadata: FileMetaData; tree: SchemaTree }> {
  const tail = await slice(size - TAIL_BYTES, size);
  const length = new DataView(tail.buffer).getUint32(0, true);
  const metadata = parquetMetadata(await slice(size - TAIL_BYTES - length, size), { geoparquet: false });
  return { metadata, tree: parquetSchema(metadata) };
}

/** The values of some columns of a row group. */
async function readGroup(
  slice: Slice,
  group: RowGroup,
  rows: number,
  tree: SchemaTree,
  columns: readonly string[],
): Promise<ArrayLike<unknown>[]> {
  const leaves: Parameters<typeof assembleNested>[0] = new Map();
  for (const { meta_data: leaf, file_path } of group.columns) {
    if (!leaf || file_path) throw new Error('its columns are in other files');
    const { path_in_schema: pathInSchema, type, codec } = leaf;
    if (!columns.includes(pathInSchema[0])) continue;
    const start = Number(leaf.dictionary_page_offset || leaf.data_page_offset);
    const bytes = await slice(start, start + Number(leaf.total_compressed_size));
    const schemaPath = getTreePath(tree, pathInSchema);
    const { element } = schemaPath[schemaPath.length - 1];
    const { data } = readColumn(
      { view: new DataView(bytes.buffer), offset: 0 },
      { groupStart: 0, selectStart: 0, selectEnd: rows, groupRows: rows },
      { pathInSchema, schemaPath, element, type, codec, compressors: bounded, parsers, utf8: true },
    );
    leaves.set(pathInSchema.join('.'), flatten(data));
  }
  return columns.map((name) => {
    const child = tree.children.find(({ element }) => element.name === name)!;
    if (child.children.length > 0) assembleNested(leaves, child, parsers);
    const values = leaves.get(name);
    if (values?.length !== rows) {
      throw new Error(`column "${name}" has ${values?.length ?? 0} values, the footer says ${rows}`);
    }
    return values;
  });
}

const bounded: typeof compressors = Object.fromEntries(
  Object.entries(compressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, length: number) => {
      if (length > MAX_PAGE_BYTES) throw new Error(`a page claims ${length} bytes`);
      return decompress(input, length);
    },
  ]),
);

function slicerOf(handle: FileHandle, path: string, size: number): Slice {
  return async (start, end) => {
    if (!(start >= 0 && start <= end && end <= size)) {
      throw new Error(`bytes ${start} to ${end} are not in its ${size}`);
    }
    const target = new Uint8Array(end - start);
    await readFully(handle, path, target, start);
    return target;
  };
}
