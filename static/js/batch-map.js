/**
 * The mini-batches of a job, a square each, drawn on a canvas. A square that stands for several opens into those around
 * it, one that stands for a single one shows its files, attempts and error.
 */
import { MOST, Squares, WORST } from "./batch-squares.js";

const EACH = 1000;

customElements.define("batch-map", class extends HTMLElement {
  connectedCallback() {
    this.box = this.querySelector("[data-box]");
    this.canvas = this.querySelector("[data-canvas]");
    this.squares = new Squares();
    this.at = 0;
    const event = `changed:${this.dataset.topic.replace(/[^A-Za-z0-9_-]/g, "-")}`;
    this.later = () => this.soon();
    for (const name of [event, "tick"]) document.body.addEventListener(name, this.later);
    this.redraw = () => this.draw();
    this.sizes = new ResizeObserver(this.redraw);
    this.sizes.observe(this.box);
    this.themes = new MutationObserver(this.redraw);
    this.themes.observe(document.documentElement, { attributeFilter: ["class"] });
    this.box.addEventListener("pointermove", (move) => this.hover(move));
    this.box.addEventListener("pointerleave", () => this.say(""));
    this.box.addEventListener("click", (click) => this.choose(this.under(click)));
    this.box.addEventListener("keydown", (key) => this.key(key));
    this.box.addEventListener("focus", () => { this.focused = true; this.draw(); this.tell(); });
    this.box.addEventListener("blur", () => { this.focused = false; this.draw(); this.say(""); });
    this.querySelector("[data-all]").addEventListener("click", () => this.show(0, 0));
    this.load();
  }

  disconnectedCallback() {
    const event = `changed:${this.dataset.topic.replace(/[^A-Za-z0-9_-]/g, "-")}`;
    for (const name of [event, "tick"]) document.body.removeEventListener(name, this.later);
    this.sizes.disconnect();
    this.themes.disconnect();
    clearTimeout(this.timer);
  }

  /** At most once a second, and not after the last has ended. */
  soon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load();
    }, EACH);
  }

  async load() {
    const answer = await fetch(this.dataset.src).catch(() => null);
    if (!answer?.ok) return;
    this.squares.letters = await answer.text();
    for (const letter of WORST) this.querySelector(`[data-count="${letter}"]`).textContent = this.squares.count(letter);
    this.draw();
  }

  draw() {
    const { squares } = this;
    const width = this.box.clientWidth;
    if (!squares.letters || !width) return;
    squares.paint(this.canvas, width, this.focused ? this.at : null);
    this.querySelector("[data-scale-text]").textContent = this.legend();
    this.querySelector("[data-all]").hidden = !squares.size;
  }

  /** What a square is when it is not one mini-batch of all. */
  legend() {
    const { letters, from, size, shown } = this.squares;
    if (shown.each > 1) return fill(this.dataset.scale, { k: shown.each });
    return size ? fill(this.dataset.window, { n: from, m: from + shown.total - 1, total: letters.length }) : "";
  }

  under(event) {
    const { step, columns } = this.squares.layout(this.box.clientWidth);
    const place = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - place.left) / step);
    const square = Math.floor((event.clientY - place.top) / step) * columns + column;
    return column < columns && square >= 0 && square < this.squares.shown.squares ? square : -1;
  }

  words(square) {
    const [n, m] = this.squares.range(square);
    return `${fill(m > n ? this.dataset.many : this.dataset.one, { n, m })} · ${this.dataset[this.squares.letter(square)]}`;
  }

  hover(event) {
    const square = this.under(event);
    this.say(square < 0 ? "" : this.words(square));
  }

  tell() {
    this.say(this.squares.shown.squares ? this.words(this.at) : "");
  }

  say(text) {
    const here = this.querySelector("[data-here]");
    if (here.textContent !== text) here.textContent = text;
  }

  key(event) {
    const { squares } = this.squares.shown;
    const { columns } = this.squares.layout(this.box.clientWidth);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -this.at, End: squares - 1 - this.at };
    if (event.key in steps) this.at = Math.max(0, Math.min(squares - 1, this.at + steps[event.key]));
    else if (event.key === "f") this.at = this.squares.next(this.at, "f");
    else if (event.key === "Enter" || event.key === " ") this.choose(this.at);
    else if (event.key === "Escape" && this.squares.size) this.show(0, 0);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
    this.tell();
  }

  choose(square) {
    const { shown } = this.squares;
    if (square < 0 || square >= shown.squares) return;
    this.at = square;
    const [start] = this.squares.range(square);
    if (shown.each > 1) this.show(Math.max(0, start - MOST / 2), MOST, start);
    else this.open(start);
  }

  show(from, size, at = from) {
    Object.assign(this.squares, { from, size });
    this.at = at - from;
    this.draw();
    this.tell();
  }

  async open(number) {
    const target = this.querySelector("[data-panel]");
    await window.htmx.ajax("GET", `${this.dataset.page}/${number}`, { target, select: "#mini-batch" });
    target.querySelector("h2")?.focus();
  }
});

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
