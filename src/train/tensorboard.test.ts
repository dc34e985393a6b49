import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crc32c, EVENTS_FILE, EventFile, readEvents } from './tensorboard.js';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-events-'));
  path = join(folder, EVENTS_FILE);
});
afterAll(() => rm(folder, { recursive: true }));

const write = async () => {
  const file = await EventFile.open(path, 0);
  for (const step of [1, 2, 300]) await file.add(step, { 'train/loss': 1.5 / step, 'train/rate': 2e-4 });
  await file.add(300, { 'eval/loss': 2.25 });
};
const steps = async () => (await readEvents(path)).map(({ step }) => step);

describe('event files', () => {
  it('have the checksum of RFC 3720', () => {
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  });

  it('are read where TensorBoard wrote them', async () => {
    const written = [
      '4800000000000000fe92489d091d97324d5bc1da411a0d627261696e2e4576656e743a32522e0a2c74656e73',
      '6f72626f6172642e73756d6d6172792e7772697465722e6576656e745f66696c655f777269746572fe4086d2',
      '19000000000000008bf1082809000000000000164010072a0c0a0a0a03782f79150000003f1b02dd7c',
    ].join('');
    await writeFile(path, Buffer.from(written, 'hex'));
    expect(await readEvents(path)).toEqual([{ wallTime: 5.5, step: 7, scalars: { 'x/y': 0.5 } }]);
  });

  it('are refused where a record is no event', async () => {
    const [length, content] = [Buffer.alloc(8), Buffer.from([0xff])];
    length.writeBigUInt64LE(1n);
    const masked = (bytes: Uint8Array) => {
      const crc = crc32c(bytes);
      const field = Buffer.alloc(4);
      field.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
      return field;
    };
    await writeFile(path, Buffer.concat([length, masked(length), content, masked(content)]));
    await expect(readEvents(path)).rejects.toThrow('the record at byte 0 is no TensorBoard event');
  });

  it('read back what was written', async () => {
    await write();
    const events = await readEvents(path);
    expect(events.map(({ step, scalars }) => [step, scalars])).toEqual([
      [1, { 'train/loss': 1.5, 'train/rate': Math.fround(2e-4) }],
      [2, { 'train/loss': 0.75, 'train/rate': Math.fround(2e-4) }],
      [300, { 'train/loss': Math.fround(0.005), 'train/rate': Math.fround(2e-4) }],
      [300, { 'eval/loss': 2.25 }],
    ]);
    expect(Math.abs(events[0].wallTime - Date.now() / 1000)).toBeLessThan(60);
  });

  it('go on behind a step, with the times that they had', async () => {
    await write();
    const before = await readEvents(path);
    const file = await EventFile.open(path, 2);
    expect(await readEvents(path)).toEqual(before.slice(0, 2));
    await file.add(3, { 'train/loss': 1 });
    expect(await steps()).toEqual([1, 2, 3]);
    await EventFile.open(path, 0);
    expect(await steps()).toEqual([]);
  });

  it('survive a kill in the middle of a frame, but not a changed byte', async () => {
    await write();
    const bytes = await readFile(path);
    await truncate(path, bytes.length - 3);
    expect(await steps()).toEqual([1, 2, 300]);
    for (const at of [0, 20, bytes.length - 5]) {
      const changed = Uint8Array.from(bytes);
      changed[at] ^= 1;
      await writeFile(path, changed);
      await expect(readEvents(path)).rejects.toThrow(`${path}: the record at byte`);
    }
  });
});
