import { expect, it } from 'vitest';
import { UserError } from './errors.js';

it('a message keeps its ends however long the name is that a file puts into it', () => {
  const { message } = new UserError(`x.json: key "${'k'.repeat(1e6)}" is not a number`);
  expect(message).toMatch(/^x\.json: key "kkk.* \.\.\. k+" is not a number$/);
  expect(message.length).toBeLessThan(1000);
  expect(new UserError('m'.repeat(1000)).message).toBe('m'.repeat(1000));
});
