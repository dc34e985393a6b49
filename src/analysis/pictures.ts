/** The analyses drawn: a function of the theme for each picture. */
import { heatMaps, lineChart, type Theme } from '../draw/index.js';
import type { ModuleAnalysis } from './module.js';
import { medianOf } from './report.js';

export type Pictures = Record<string, (theme: Theme) => string>;

/** What a picture is told of: the adapter, and the other one or "random". */
export interface PictureWords {
  title: string;
  subtitle?: string;
}

/**
 * By name: `spectra` (σᵢ/σ₁, medians of the layers of a role), `similarity-a` and `similarity-b` (φ, medians too), and `weight` (where
 * ‖ΔW‖² sits, by layer and role) where there are numbered layers.
 */
export function picturesOf(modules: readonly ModuleAnalysis[], words: PictureWords): Pictures {
  const changed = modules.filter(({ change }) => change.norm > 0);
  const roles = byRole(changed);
  if (changed.length === 0) return {};
  const pictures: Pictures = {
    spectra: (theme) => lineChart(spectra(roles, words), theme),
  };
  for (const side of ['a', 'b'] as const) {
    const maps = [...roles].flatMap(([role, group]) => similarityOf(role, group, side));
    if (maps.length === 0) continue;
    const directions = side === 'a' ? 'input directions (A)' : 'output directions (B)';
    const label = `φ(i, j) of ${directions}`;
    pictures[`similarity-${side}`] = (theme) =>
      heatMaps({ ...words, maps, scale: { kind: 'sequential', label, from: 0, to: 1 } }, theme);
  }
  const weight = weightOf(changed, roles);
  if (weight) {
    const scale = { kind: 'sequential', label: 'share of the change, ‖ΔW‖²', from: 0 } as const;
    pictures.weight = (theme) => heatMaps({ ...words, maps: [weight], scale }, theme);
  }
  return pictures;
}

function byRole(modules: readonly ModuleAnalysis[]): Map<string, ModuleAnalysis[]> {
  const roles = new Map<string, ModuleAnalysis[]>();
  for (const module of modules) roles.set(module.role, [...(roles.get(module.role) ?? []), module]);
  return roles;
}

function spectra(roles: ReadonlyMap<string, readonly ModuleAnalysis[]>, words: PictureWords) {
  return {
    ...words,
    x: { label: 'direction i' },
    y: { label: 'σᵢ / σ₁, median', from: 0, to: 1 },
    series: [...roles].map(([name, group]) => {
      const most = Math.max(...group.map(({ change }) => change.values.length));
      const points = Array.from({ length: most }, (_, i) => {
        const shares = group.map(({ change: { values } }) => (values[i] ?? 0) / values[0]);
        return [i + 1, medianOf(shares)!] as const;
      });
      return { name, points, dots: most <= 32 };
    }),
  };
}

/** The median table of those layers whose tables are of one size: that of the first. */
function similarityOf(role: string, group: readonly ModuleAnalysis[], side: 'a' | 'b') {
  const tables = group.map(({ similarity }) => similarity[side].phi).filter((phi) => phi.length > 0);
  if (tables.length === 0) return [];
  const [first] = tables;
  const alike = tables.filter((phi) => phi.length === first.length && phi[0].length === first[0].length);
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i + 1));
  return [
    {
      title: role,
      rowLabel: 'i',
      columnLabel: 'j',
      rows: numbers(first.length),
      columns: numbers(first[0].length),
      values: first.map((row, i) => row.map((_, j) => medianOf(alike.map((phi) => phi[i][j]))!)),
    },
  ];
}

function weightOf(modules: readonly ModuleAnalysis[], roles: ReadonlyMap<string, readonly ModuleAnalysis[]>) {
  const layers = [...new Set(modules.flatMap(({ layer }) => layer ?? []))].sort((a, b) => a - b);
  if (layers.length === 0) return undefined;
  const total = modules.reduce((sum, { change }) => sum + change.norm ** 2, 0);
  const named = [...roles].filter(([, group]) => group.some(({ layer }) => layer !== undefined));
  return {
    rowLabel: 'role',
    columnLabel: 'layer',
    rows: named.map(([role]) => role),
    columns: layers.map(String),
    values: named.map(([, group]) =>
      layers.map((layer) => {
        const module = group.find((one) => one.layer === layer);
        return module && module.change.norm ** 2 / total;
      }),
    ),
  };
}
