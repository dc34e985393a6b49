#!/usr/bin/env node
import { packageVersion } from '../api/version.js';
import { type CommandSpec, runProgram } from './command.js';
import { convert } from './convert.js';
import { demo } from './demo.js';
import { evaluate } from './eval.js';
import { generate } from './generate.js';
import { inspect } from './inspect.js';
import { merge } from './merge.js';
import { leaveOnClosedPipe } from './terminal.js';
import { train } from './train.js';

const commands: readonly CommandSpec[] = [demo, train, generate, evaluate, merge, inspect, convert];

leaveOnClosedPipe();
process.exitCode = await runProgram(commands, packageVersion(), process.argv.slice(2));
