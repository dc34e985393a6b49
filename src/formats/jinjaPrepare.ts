/** What is done to a parsed Jinja template before it is rendered. */
import { UserError } from '../base/errors.js';

/** A node of @huggingface/jinja's parser. */
export interface Node {
  readonly type: string;
  readonly [field: string]: unknown;
}

const STATEMENTS = new Set(
  'Program If For Break Continue Set Macro Comment CallStatement FilterStatement FreshIteration'.split(' '),
);

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

/** Everything a node holds: nodes, operators, and what stands in its lists and maps. */
function childrenOf(node: Node): Node[] {
  const children: Node[] = [];
  const add = (value: unknown): void => {
    if (isNode(value)) children.push(value);
    else if (Array.isArray(value)) value.forEach(add);
    else if (value instanceof Map) for (const [key, item] of value) [key, item].forEach(add);
  };
  Object.values(node).forEach(add);
  return children;
}

/**
 * Readies a parsed template for the interpreter of jinja.ts: gives each loop body a first statement that forgets the
 * iteration before, and refuses what cannot be mended. Returns the expressions whose value is printed.
 */
export function prepare(program: Node): ReadonlySet<Node> {
  const printed = new Set<Node>();
  const visit = (node: Node): void => {
    for (const list of ['body', 'alternate', 'defaultBlock']) {
      const statements = node[list];
      if (!Array.isArray(statements)) continue;
      for (const statement of statements as Node[]) {
        if (!STATEMENTS.has(statement.type) && statement.type !== 'StringLiteral') printed.add(statement);
      }
    }
    for (const child of childrenOf(node)) visit(child);
    if (node.type === 'For') prepareLoop(node);
    if (node.type === 'FilterStatement')
      throw new UserError('the template uses {% filter %}, which is not supported');
  };
  visit(program);
  return printed;
}

function prepareLoop(node: Node): void {
  const body = node.body as Node[];
  const { jumps, lost } = jumpsOf(body);
  // The library drops what an iteration printed before it jumped, and counts it as no iteration.
  if (lost || (jumps && (node.defaultBlock as Node[]).length > 0)) {
    throw new UserError('the template prints before {% break %} or {% continue %}, which is not supported');
  }
  const target = node.loopvar as Node;
  const names = target.type === 'Identifier' ? [target] : (target.value as Node[]);
  body.unshift({ type: 'FreshIteration', keep: new Set(names.map((name) => name.value)) });
}

/** Whether a block may leave or restart its loop, and whether it may do so after it printed. */
function jumpsOf(body: readonly Node[]): { prints: boolean; jumps: boolean; lost: boolean } {
  const all = { prints: false, jumps: false, lost: false };
  for (const node of body) {
    if (node.type === 'Break' || node.type === 'Continue') {
      all.lost ||= all.prints;
      all.jumps = true;
    } else if (node.type === 'If') {
      const branches = [jumpsOf(node.body as Node[]), jumpsOf(node.alternate as Node[])];
      for (const branch of branches) all.lost ||= branch.lost || (all.prints && branch.jumps);
      all.prints ||= branches.some((branch) => branch.prints);
      all.jumps ||= branches.some((branch) => branch.jumps);
    } else if (!['Set', 'Macro', 'Comment', 'FreshIteration'].includes(node.type)) {
      all.prints = true;
    }
  }
  return all;
}
