/**
 * The drawing room: pictures as SVG text, without a page to draw on, so that they are the same in Node and in a browser.
 * Each function takes what to show and a theme, and returns a whole document.
 */
export { type Axis, numberText } from './axis.js';
export { type BarSeries, type Bars, bars } from './bars.js';
export type { FigureWords } from './figure.js';
export { type ColourScale, type HeatMap, type HeatMaps, heatMap, heatMaps } from './heatMap.js';
export { type LineChart, type LineSeries, lineChart, type Point } from './lineChart.js';
export { type Scatter, type ScatterGroup, type ScatterPoint, scatter } from './scatter.js';
export { type Theme, themes } from './theme.js';
