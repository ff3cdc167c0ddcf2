/**
 * A chart of the surrounding <metrics-feed>. All charts of a page share one crosshair; the legend is a table whose
 * buttons hide lines and whose first column follows the crosshair. Colours are the page's CSS variables.
 */
import uPlot from "../vendor/uplot/uplot.js";
import { clock, css, flags, powers, rule, times } from "./chart-parts.js";
import { fill, inUnit, write } from "./metrics-feed.js";

const HEIGHT = 180;
customElements.define("live-chart", class extends HTMLElement {
  connectedCallback() {
    this.feed = this.closest("metrics-feed");
    this.plot = this.querySelector(".plot");
    this.hidden_lines = new Set();
    this.draw = () => this.show(this.feed.data);
    this.feed.addEventListener("metrics", this.draw);
    this.theme = new MutationObserver(() => this.chart?.redraw(false));
    this.theme.observe(document.documentElement, { attributeFilter: ["class"] });
    this.size = new ResizeObserver(() => this.resize());
    this.size.observe(this.plot);
    this.querySelector(".metric-legend").addEventListener("click", (event) => this.toggle(event.target.closest("button")));
    if (this.feed.data) this.draw();
  }

  disconnectedCallback() {
    this.feed.removeEventListener("metrics", this.draw);
    this.theme.disconnect();
    this.size.disconnect();
    this.chart?.destroy();
  }

  show(data) {
    const mine = data.charts.find((each) => each.name === this.dataset.chart);
    this.lines = mine.lines;
    const values = [data.times, ...mine.lines.map((line) => line.values)];
    const empty = !mine.lines.some((line) => line.values.some((value) => value !== null));
    this.plot.toggleAttribute("data-empty", empty);
    this.querySelector(".no-data").hidden = !empty;
    const shape = JSON.stringify(mine.lines.map((line) => [line.label, line.colour, line.dash]));
    this.markers = data.markers;
    this.span = [data.times[0], data.times.at(-1) + data.step];
    if (this.chart && shape === this.shape) {
      this.chart.setData(values);
    } else {
      this.chart?.destroy();
      if (this.shape) this.legend(mine.lines);
      this.chart = new uPlot(this.options(mine.lines), values, this.plot);
    }
    this.shape = shape;
    if (!this.following) this.cells();
    const table = this.querySelector(".metric-table");
    fill(table.tHead, [[table.tHead.rows[0].cells[0].textContent, ...mine.lines.map((line) => line.label)]]);
    fill(table.tBodies[0], mine.rows);
  }

  options(lines) {
    const axis = { stroke: () => css("muted-foreground"), font: "11px Inter Variable, sans-serif", ticks: { show: false } };
    const grid = { stroke: () => css("line"), width: 1 };
    const unit = this.dataset.unit;
    const stepped = uPlot.paths.stepped({ align: 1 });
    return {
      width: this.plot.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 }, sync: { key: "metrics", setSeries: false } },
      scales: { x: { range: () => this.span }, y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 28, values: times },
        { ...axis, grid, size: 56, space: 32, incrs: unit === "bytes" ? powers() : undefined, values: (_chart, marks) => marks.map((value) => inUnit(value, unit, true)) },
      ],
      series: [{}, ...lines.map((line) => ({
        label: line.label,
        stroke: () => css(line.colour),
        width: 1.5,
        dash: line.dash ? [4, 4] : undefined,
        show: !this.hidden_lines.has(line.label),
        paths: unit === "count" ? stepped : undefined,
        points: { show: (_chart, index) => lines[index - 1].values.filter((value) => value !== null).length < 2, size: 4 },
      }))],
      hooks: { draw: [(chart) => this.mark(chart)], setCursor: [(chart) => this.follow(chart)] },
    };
  }

  /** Every chart has the lines of changes, the first one their labels: forty tab stops are enough. */
  mark(chart) {
    rule(chart, this.markers);
    if (this.dataset.chart === "requests") flags(chart, this.markers);
  }

  follow(chart) {
    const index = chart.cursor.left >= 0 ? chart.cursor.idx : null;
    this.following = index !== null && index !== undefined;
    write(this.querySelector("[data-moment]"), this.following ? clock.format(chart.data[0][index] * 1000) : "");
    if (!this.following) return this.cells();
    [...this.querySelector(".metric-legend tbody").rows].forEach((row, line) => write(row.cells[1], inUnit(chart.data[line + 1]?.[index], this.dataset.unit)));
  }

  cells() {
    [...this.querySelector(".metric-legend tbody").rows].forEach((row, line) => this.lines[line].cells.forEach((text, column) => write(row.cells[column + 1], text)));
  }

  legend(lines) {
    const body = this.querySelector(".metric-legend tbody");
    body.replaceChildren(...lines.map((line) => {
      const row = document.createElement("tr");
      const head = Object.assign(document.createElement("th"), { scope: "row" });
      const button = Object.assign(document.createElement("button"), { type: "button" });
      const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
      swatch.dataset.colour = line.colour;
      swatch.toggleAttribute("data-dash", line.dash);
      button.setAttribute("aria-pressed", String(!this.hidden_lines.has(line.label)));
      button.append(swatch, Object.assign(document.createElement("span"), { textContent: line.label }));
      head.append(button);
      row.append(head, ...line.cells.map(() => document.createElement("td")));
      return row;
    }));
  }

  toggle(button) {
    if (!button || !this.chart) return;
    const index = button.closest("tr").sectionRowIndex;
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    this.hidden_lines[shown ? "delete" : "add"](this.lines[index].label);
    this.chart.setSeries(index + 1, { show: shown });
  }

  resize() {
    if (!this.chart || !this.plot.clientWidth) return;
    this.chart.setSize({ width: this.plot.clientWidth, height: HEIGHT });
  }
});
