#!/usr/bin/env node
import { packageVersion } from '../api/version.js';
import { runProgram } from './command.js';
import { commands } from './commands.js';
import { endOnClosedPipe } from './interrupt.js';

endOnClosedPipe();
process.exitCode = await runProgram(commands, packageVersion(), process.argv.slice(2));
