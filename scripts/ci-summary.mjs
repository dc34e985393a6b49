// Adds up vitest's JSON reports and prints the line that closes a CI run. A test that one suite skips for lack of
// something must have run in another; else CI fails. usage: ci-summary.mjs REPORT.json …
import { readFileSync } from 'node:fs';

const passed = new Set();
const failed = new Set();
const skipped = new Set();
for (const path of process.argv.slice(2)) {
  for (const file of JSON.parse(readFileSync(path, 'utf8')).testResults) {
    for (const test of file.assertionResults) {
      const name = `${file.name}: ${test.fullName}`;
      if (test.status === 'passed') passed.add(name);
      else if (test.status === 'failed') failed.add(name);
      else skipped.add(name);
    }
  }
}
const never = [...skipped].filter((name) => !passed.has(name) && !failed.has(name));
for (const name of never) console.log(`skipped by every suite: ${name}`);
console.log(`${passed.size} passed, ${failed.size} failed, ${never.length} skipped`);
process.exit(failed.size > 0 || never.length > 0 || passed.size === 0 ? 1 : 0);
