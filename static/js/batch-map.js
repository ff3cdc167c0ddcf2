/**
 * The mini-batches of a job, a square each: drawn on a canvas from one letter per mini-batch. More than MOST are drawn
 * together, in the colour of the worst; such a square opens into those around it. Shapes differ as well as colours.
 */
import { css } from "./chart-parts.js";

const MOST = 5000;
const TALLEST = 320;
const [LARGEST, SMALLEST, GAP] = [14, 3, 2];
const WORST = ["f", "r", "q", "d"];
const COLOURS = { d: "ok", f: "failed", r: "running", q: "idle" };
const EACH = 1000;

customElements.define("batch-map", class extends HTMLElement {
  connectedCallback() {
    this.box = this.querySelector("[data-box]");
    this.canvas = this.querySelector("[data-canvas]");
    this.letters = "";
    this.from = 0;
    this.size = 0; // of the window that is shown; 0: all of them
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
    this.letters = await answer.text();
    for (const letter of WORST) this.querySelector(`[data-count="${letter}"]`).textContent = this.count(letter);
    this.draw();
  }

  count(letter) {
    return this.letters.split(letter).length - 1;
  }

  /** Squares of what is shown: how many there are, and how many mini-batches each of them is. */
  get shown() {
    const total = this.size ? Math.min(this.size, this.letters.length - this.from) : this.letters.length;
    const each = Math.max(1, Math.ceil(total / MOST));
    return { total, each, squares: Math.ceil(total / each) };
  }

  letter(square) {
    const { each } = this.shown;
    const start = this.from + square * each;
    if (each === 1) return this.letters[start];
    const part = this.letters.slice(start, start + each);
    return WORST.find((letter) => part.includes(letter));
  }

  layout() {
    const width = this.box.clientWidth;
    const { squares } = this.shown;
    let step = LARGEST + GAP;
    while (step > SMALLEST + 1 && Math.ceil(squares / Math.floor(width / step)) * step > TALLEST) step -= 1;
    const columns = Math.max(1, Math.floor(width / step));
    return { width, step, side: step - (step > 6 ? GAP : 1), columns, rows: Math.ceil(squares / columns) };
  }

  draw() {
    if (!this.letters || !this.box.clientWidth) return;
    const { width, step, side, columns, rows } = this.layout();
    const { squares, each, total } = this.shown;
    const scale = devicePixelRatio;
    this.canvas.width = width * scale;
    this.canvas.height = rows * step * scale;
    this.canvas.style.height = `${rows * step}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const colours = Object.fromEntries(Object.entries(COLOURS).map(([letter, name]) => [letter, css(name)]));
    const ground = css("surface");
    for (let square = 0; square < squares; square += 1) {
      const x = (square % columns) * step;
      const y = Math.floor(square / columns) * step;
      cell(pen, this.letter(square), x, y, side, colours, ground);
    }
    if (this.focused) {
      pen.strokeStyle = css("foreground");
      pen.lineWidth = 2;
      pen.strokeRect((this.at % columns) * step - 0, Math.floor(this.at / columns) * step, side, side);
    }
    const text = each > 1 ? fill(this.dataset.scale, { k: each }) : this.size ? fill(this.dataset.window, { n: this.from, m: this.from + total - 1, total: this.letters.length }) : "";
    this.querySelector("[data-scale-text]").textContent = text;
    this.querySelector("[data-all]").hidden = !this.size;
  }

  under(event) {
    const { step, columns } = this.layout();
    const place = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - place.left) / step);
    const square = Math.floor((event.clientY - place.top) / step) * columns + column;
    return column < columns && square >= 0 && square < this.shown.squares ? square : -1;
  }

  words(square) {
    const { each, total } = this.shown;
    const start = this.from + square * each;
    const end = Math.min(start + each, this.from + total) - 1;
    const name = fill(end > start ? this.dataset.many : this.dataset.one, { n: start, m: end });
    return `${name} · ${this.dataset[this.letter(square)]}`;
  }

  hover(event) {
    const square = this.under(event);
    this.say(square < 0 ? "" : this.words(square));
  }

  tell() {
    this.say(this.shown.squares ? this.words(this.at) : "");
  }

  say(text) {
    const here = this.querySelector("[data-here]");
    if (here.textContent !== text) here.textContent = text;
  }

  key(event) {
    const { squares } = this.shown;
    const { columns } = this.layout();
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -this.at, End: squares - 1 - this.at };
    if (event.key in steps) this.at = Math.max(0, Math.min(squares - 1, this.at + steps[event.key]));
    else if (event.key === "f") this.at = this.next("f");
    else if (event.key === "Enter" || event.key === " ") this.choose(this.at);
    else if (event.key === "Escape" && this.size) this.show(0, 0);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
    this.tell();
  }

  next(letter) {
    const { squares } = this.shown;
    for (let step = 1; step <= squares; step += 1) {
      const square = (this.at + step) % squares;
      if (this.letter(square) === letter) return square;
    }
    return this.at;
  }

  choose(square) {
    if (square < 0 || square >= this.shown.squares) return;
    this.at = square;
    const { each } = this.shown;
    const start = this.from + square * each;
    if (each > 1) this.show(Math.max(0, start - MOST / 2), MOST, start);
    else this.open(start);
  }

  show(from, size, at = from) {
    this.from = from;
    this.size = size;
    this.at = at - from;
    this.draw();
    this.tell();
  }

  async open(number) {
    const target = this.querySelector("[data-panel]");
    await window.htmx.ajax("GET", `${this.dataset.page}/${number}`, { target, swap: "innerHTML", select: "#mini-batch" });
    target.querySelector("h2")?.focus();
  }
});

function cell(pen, letter, x, y, side, colours, ground) {
  pen.fillStyle = colours[letter];
  if (letter === "q" && side > 3) {
    pen.strokeStyle = colours.q;
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
    return;
  }
  if (letter === "q") pen.globalAlpha = 0.35;
  if (letter === "r" && side > 3) {
    pen.strokeStyle = colours.r;
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
    pen.fillRect(x, y, side, side / 2);
  } else pen.fillRect(x, y, side, side);
  pen.globalAlpha = 1;
  if (letter !== "f" || side < 5) return;
  pen.strokeStyle = ground;
  pen.lineWidth = Math.max(1, side / 7);
  pen.beginPath();
  pen.moveTo(x + 1, y + side - 1);
  pen.lineTo(x + side - 1, y + 1);
  pen.stroke();
}

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
