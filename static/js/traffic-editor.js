/**
 * One row per deployment: range, number and lock, linked so that the sum stays 100. Nothing is sent until the form is.
 * The difference to the present split is spelled out; a split the server would refuse cannot be applied.
 */
const SVG = "http://www.w3.org/2000/svg";

customElements.define("traffic-editor", class extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.rows = [...this.querySelectorAll(".traffic-row")].map((row) => ({
      name: row.dataset.name,
      was: Number(row.dataset.was),
      hue: row.dataset.hue,
      range: row.querySelector("input[type=range]"),
      number: row.querySelector("input[type=number]"),
      lock: row.querySelector("input[type=checkbox]"),
    }));
    for (const row of this.rows) {
      row.range.addEventListener("input", () => this.move(row, row.range.valueAsNumber));
      row.number.addEventListener("change", () => this.move(row, row.number.valueAsNumber || 0));
    }
    this.mirror = this.querySelector("select[name=mirror]");
    this.share = this.querySelector("input[name=mirror_percent]");
    this.mirror.addEventListener("change", () => this.draw());
    this.share.addEventListener("input", () => this.draw());
    this.form.addEventListener("reset", () => setTimeout(() => this.reset()));
    this.draw();
  }

  /** The moved row takes what the locked ones leave; the unlocked others share the rest in their old proportions. */
  move(row, wanted) {
    const others = this.rows.filter((each) => each !== row && !each.lock.checked);
    const locked = this.rows.filter((each) => each !== row && each.lock.checked);
    const room = 100 - locked.reduce((sum, each) => sum + each.range.valueAsNumber, 0);
    const value = Math.max(0, Math.min(room, Math.round(wanted)));
    this.set(row, value);
    if (others.length) this.share_out(others, room - value);
    this.draw();
  }

  share_out(rows, rest) {
    const weights = rows.map((each) => each.range.valueAsNumber);
    const total = weights.reduce((sum, each) => sum + each, 0);
    const exact = weights.map((each) => (total ? (rest * each) / total : rest / rows.length));
    const parts = exact.map(Math.floor);
    const order = exact.map((each, index) => [each - parts[index], index]).sort((a, b) => b[0] - a[0]);
    const left = rest - parts.reduce((sum, each) => sum + each, 0);
    for (let turn = 0; turn < left; turn += 1) parts[order[turn % order.length][1]] += 1;
    rows.forEach((each, index) => this.set(each, parts[index]));
  }

  set(row, value) {
    row.range.value = value;
    row.number.value = value;
  }

  reset() {
    for (const row of this.rows) this.set(row, row.was);
    this.mirror.value = this.mirror.dataset.was;
    if (this.share.dataset.was) this.share.value = this.share.dataset.was;
    this.draw();
  }

  /** The bar, the difference in words, and whether Apply makes sense. */
  draw() {
    const bar = this.querySelector("[data-bar] svg");
    let x = 0;
    bar.replaceChildren(...this.rows.filter((row) => row.range.valueAsNumber > 0).map((row) => {
      const rect = document.createElementNS(SVG, "rect");
      const width = row.range.valueAsNumber;
      for (const [name, value] of [["class", "hue"], ["data-hue", row.hue], ["x", `${x}%`], ["width", `${width}%`], ["height", "100%"]]) rect.setAttribute(name, value);
      x += width;
      return rect;
    }));
    for (const row of this.rows) row.range.style.setProperty("--slider-value", `${row.range.value}%`); // Basecoat's fill
    bar.setAttribute("aria-label", this.rows.map((row) => `${row.name} ${row.range.value} %`).join(", "));
    const changes = this.rows.filter((row) => row.range.valueAsNumber !== row.was).map((row) => `${row.name} ${row.was} → ${row.range.value}`);
    const [before, after] = [this.mirrorText(this.mirror.dataset.was, this.share.dataset.was), this.mirrorText(this.mirror.value, this.share.value)];
    if (before !== after) changes.push(`${this.dataset.mirror} ${before} → ${after}`);
    const problem = this.problem();
    const text = this.querySelector("[data-difference]");
    text.textContent = problem ?? (changes.join(", ") || this.dataset.unchanged);
    text.toggleAttribute("data-bad", problem !== null);
    this.share.disabled = !this.mirror.value;
    const apply = this.querySelector("button[type=submit]");
    if (!this.querySelector("fieldset").disabled) apply.disabled = problem !== null || changes.length === 0;
  }

  mirrorText(name, percent) {
    return name ? `${name} ${percent || 0} %` : "–";
  }

  problem() {
    const sum = this.rows.reduce((total, row) => total + row.range.valueAsNumber, 0);
    if (sum !== 0 && sum !== 100) return `${this.dataset.sum} ${sum}`;
    const target = this.rows.find((row) => row.name === this.mirror.value);
    return target && target.range.valueAsNumber > 0 ? this.dataset.mirrorLive : null;
  }
});
