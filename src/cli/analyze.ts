import * as z from 'zod';
import type { ModuleAnalysis } from '../analysis/module.js';
import { type RoleSummary, rolesOf, summaryOf } from '../analysis/report.js';
import { writeAnalysis } from '../api/analysisFolder.js';
import { type Analysis, analyze as analyzeChanges, analyzeShape } from '../api/analyze.js';
import { claimOutput } from '../api/replace.js';
import { type CommandSpec, exitCodes, parseOptions, UsageError } from './command.js';
import { locating } from './download.js';
import { jsonOption, outputOption, overwriteOption } from './options.js';
import type { Terminal } from './terminal.js';
import { counted, labelled, percent, tableOrList, wrapped } from './text.js';
import { showsWork } from './work.js';

const text = z.string().min(1);
const shape = {
  adapter: text,
  other: text.optional(),
  model: text
    .meta({ valueName: 'model' })
    .optional()
    .describe('base: model folder, .gguf file, hub id or "demo" (default: the one that the adapters name)'),
  ...analyzeShape,
  all: z.boolean().default(false).describe('a row for each module, not medians of those of one kind'),
  output: outputOption.optional().describe('folder to write analysis.json and pictures (SVG, PNG) into'),
  overwrite: overwriteOption,
  json: jsonOption,
};
const positional = ['adapter', 'other'];

export const analyze: CommandSpec = {
  name: 'analyze',
  summary: 'look inside an adapter, or set it beside another',
  description:
    'Per module: singular values and effective ranks of the change dW, how it relates to W, intruder dimensions; how ' +
    'much its directions share with those of another adapter, or of random matrices. A tuned model will do in place of ' +
    'an adapter, with --model for what it was tuned from.\n' +
    'docs/analysis.md has the definitions, and the rules of the verdict.',
  positional,
  writes: true,
  groups: { Options: shape },
  examples: [
    'lowrank analyze my-adapter',
    'lowrank analyze adapter-r8 adapter-r64 --modules q_proj,v_proj --output analysis',
    'lowrank analyze ./tuned-model --model ./base-model --all',
  ],
  async run(given, terminal) {
    const {
      adapter,
      other,
      all,
      output,
      overwrite,
      json: _,
      ...options
    } = parseOptions(z.object(shape), given, positional);
    const inputs = [adapter, other, options.model].filter((one) => one !== undefined);
    if (output !== undefined) await claimOutput(output, 'analysis', { overwrite, inputs });
    else if (overwrite) throw new UsageError('--overwrite is for --output');
    const work = analyzeChanges(adapter, other, {
      ...options,
      ...locating(terminal),
      onProgress: showsWork(terminal),
    });
    const analysis = await follow(work, terminal);
    tell(analysis, all, terminal);
    if (output !== undefined) {
      const files = await writeAnalysis(output, analysis, { overwrite });
      terminal.emit({ kind: 'saved', what: 'analysis', folder: output, files });
      terminal.say(`analysis  ${output}: ${files.join(', ')}`);
    }
    return exitCodes.ok;
  },
};

/** In place of a verdict where no rule has anything to say. */
const NOTHING_SAID = 'nothing stands out by the rules of docs/analysis.md';

async function follow(work: ReturnType<typeof analyzeChanges>, terminal: Terminal): Promise<Analysis> {
  const show = showsWork(terminal);
  let next = await work.next();
  for (; !next.done; next = await work.next()) {
    const { module, done, of } = next.value;
    terminal.emit({ kind: 'module', ...module });
    show({ what: 'analyzing', done, total: of, unit: 'modules' });
  }
  const { modules: _, ...rest } = next.value;
  terminal.emit({ kind: 'analysis', ...rest });
  return next.value;
}

function tell({ modules, other, shares, verdict }: Analysis, all: boolean, terminal: Terminal): void {
  const rows = all ? modules.map((module) => summaryOf(module.name, [module])) : rolesOf(modules);
  const columns = terminal.columns ?? Number.POSITIVE_INFINITY;
  const say = (lines: readonly string[]) => {
    for (const line of lines) terminal.say(line);
  };
  say(tableOrList(changeTable(rows), columns));
  const unknown = modules.filter(({ change }) => !change.complete).length;
  if (unknown > 0) {
    const told = `Of ${counted(unknown, 'module')} the leading singular values alone are known: "-" is what takes all of them.`;
    say(['', ...wrapped(told, columns)]);
  }
  terminal.say();
  say(tableOrList(relationTable(rows, modules), columns));
  terminal.say();
  const beside = other === undefined ? 'random matrices of the same shape' : other;
  say(wrapped(`phi of its directions and those of ${beside}:`, columns));
  say(tableOrList(similarityTable(rows), columns));
  terminal.say();
  say(
    wrapped(
      `where it sits: ${shares.roles.map(({ role, share }) => `${role} ${percent(share)}`).join(', ')}`,
      columns,
    ),
  );
  const said = verdict.length > 0 ? verdict.map(({ message }) => message) : [NOTHING_SAID];
  for (const message of said) say(labelled('verdict', message, columns));
}

const figure = (x: number | null) => (x === null ? '-' : Number(x.toPrecision(3)).toString());

/** The change by itself. */
function changeTable(rows: readonly RoleSummary[]): (string | number)[][] {
  return [
    ['module', 'layers', 'r', 'sigma_1', 'entropy rank', 'stable rank', '90%', '99%', '|dW|/|W|'],
    ...rows.map(({ role, modules, rank: [low, high], ...row }) => [
      role,
      modules,
      low === high ? `${low}` : `${low}-${high}`,
      figure(row.largest),
      figure(row.entropy),
      figure(row.stable),
      figure(row.of90),
      figure(row.of99),
      percent(row.share),
    ]),
  ];
}

/** Table 7 of the paper, and intruder dimensions. */
function relationTable(
  rows: readonly RoleSummary[],
  [module]: readonly ModuleAnalysis[],
): (string | number)[][] {
  const { k, epsilon } = module.intruders;
  return [
    [
      'module',
      "W on dW's directions",
      "on W's own",
      'on random ones',
      'amplification',
      `intruders (k ${k}, eps ${epsilon})`,
    ],
    ...rows.map(({ role, ...row }) => [
      role,
      figure(row.ofChange),
      figure(row.ofWeight),
      figure(row.ofRandom),
      figure(row.amplification),
      row.intruders,
    ]),
  ];
}

function similarityTable(rows: readonly RoleSummary[]): (string | number)[][] {
  const side = ({ phi, distance }: RoleSummary, name: 'a' | 'b') => [
    figure(phi[name].first),
    figure(phi[name].all),
    figure(distance[name]),
  ];
  return [
    ['module', 'A: first', 'A: all', 'A: distance', 'B: first', 'B: all', 'B: distance'],
    ...rows.map((row) => [row.role, ...side(row, 'a'), ...side(row, 'b')]),
  ];
}
