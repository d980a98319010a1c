// Draws the numbers of the page with uPlot: with a cursor, and at the width of the window.
"use strict";

let chart = null;
function numbers() {
  const rows = [...document.querySelectorAll("#minutes tbody tr")].reverse();
  const read = (row, cell) => Number(row.cells[cell].textContent.replace(/[^0-9]/g, ""));
  return [rows.map((row) => Number(row.dataset.start)), rows.map((row) => read(row, 1) + read(row, 2)), rows.map((row) => read(row, 1))];
}
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
function draw() {
  const figure = document.querySelector(".chart");
  if (!figure || !window.uPlot) return;
  const [minutes, all, passed] = numbers();
  const bars = uPlot.paths.bars({ size: [0.7, 40] });
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const count = (_, value) => (value === null ? "–" : value.toLocaleString("en"));
  const series = [
    { value: (_, value) => (value === null ? "–" : new Date(value * 1000).toISOString().slice(11, 16)), label: "Minute" },
    { label: "refused", fill: colour("--bad"), width: 0, paths: bars, points: { show: false }, value: (plot, value, index, at) => count(plot, at === null ? null : plot.data[1][at] - plot.data[2][at]) },
    { label: "passed", fill: colour("--accent"), width: 0, paths: bars, points: { show: false }, value: count },
  ];
  const options = {
    width: figure.clientWidth, height: 220, series, padding: [8, 8, 0, 0], cursor: { drag: { x: false, y: false }, points: { show: false } },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((one) => new Date(one * 1000).toISOString().slice(11, 16)) }, { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000, 100000] }],
    scales: { y: { range: (_, __, top) => [0, Math.max(top, 4)] } },
  };
  chart?.destroy();
  figure.replaceChildren();
  chart = new uPlot(options, [minutes, all, passed], figure);
}
document.addEventListener("DOMContentLoaded", draw);
document.addEventListener("room:updated", draw);
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
