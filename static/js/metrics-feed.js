/** One fetch for all charts of a page: at once, then as often as the page says, never while it is hidden. */
export class MetricsFeed extends HTMLElement {
  connectedCallback() {
    this.data = null;
    this.refresh = Number(this.dataset.refresh) * 1000;
    this.seen = () => !document.hidden && this.due();
    document.addEventListener("visibilitychange", this.seen);
    this.ask();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
  }

  due() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), Math.max(0, (this.asked ?? 0) + this.refresh - Date.now()));
  }

  async ask() {
    this.asked = Date.now();
    try {
      const answer = await fetch(this.dataset.src, { headers: { Accept: "application/json" } });
      if (answer.ok) this.show(await answer.json());
      else if (answer.status < 500) return; // gone, or not for us any more: asking again does not help
    } catch {
      // the next turn asks again
    }
    if (!document.hidden) this.due();
  }

  show(data) {
    this.data = data;
    for (const fact of data.facts) {
      const cells = this.querySelectorAll(`[data-fact="${fact.name}"] dd`);
      write(cells[0], fact.value);
      write(cells[1], fact.note);
    }
    this.dispatchEvent(new CustomEvent("metrics"));
  }
}
customElements.define("metrics-feed", MetricsFeed);

export function write(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

/** A table body with exactly these rows; cells that stay the same are left alone. */
export function fill(body, rows) {
  rows.forEach((row, index) => {
    const line = body.rows[index] ?? body.insertRow();
    row.forEach((text, column) => write(line.cells[column] ?? line.insertCell(), text));
    while (line.cells.length > row.length) line.deleteCell(-1);
  });
  while (body.rows.length > rows.length) body.deleteRow(-1);
}

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

function number(value) {
  if (value === 0 || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** A value with its unit, as the server writes it; on an axis without needless zeros. */
export function inUnit(value, unit, axis = false) {
  if (value === null || value === undefined) return "–";
  const plain = axis || (unit === "count" && Number.isInteger(value));
  const round = plain ? (each) => Number(each.toPrecision(4)).toLocaleString("en") : number;
  if (unit === "bytes") {
    const power = value < 1 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log2(value) / 10));
    return `${round(value / 1024 ** power)} ${SIZES[power]}`;
  }
  if (unit === "ms") return value >= 1000 ? `${round(value / 1000)} s` : `${round(value)} ms`;
  return unit === "rate" ? `${round(value)} /s` : round(value);
}
