#!/usr/bin/env node
import { packageVersion } from '../api/version.js';
import { runProgram } from './command.js';
import { commands } from './commands.js';
import { leaveOnClosedPipe } from './terminal.js';

leaveOnClosedPipe();
process.exitCode = await runProgram(commands, packageVersion(), process.argv.slice(2));
