/**
 * What a map of mini-batches shows, and how it is drawn: a square each, from one letter per mini-batch. More than MOST
 * are drawn together, in the colour of the worst. Shapes differ as well as colours.
 */
import { css } from "./chart-parts.js";

export const MOST = 5000;
export const WORST = ["f", "r", "q", "d"];
const TALLEST = 320;
const [LARGEST, SMALLEST, GAP] = [14, 3, 2];
const COLOURS = { d: "ok", f: "failed", r: "running", q: "idle" };

export class Squares {
  letters = "";
  from = 0;
  size = 0; // of the window that is shown; 0: all of them

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

  /** The next square after `at` with this letter; `at` itself when there is none. */
  next(at, letter) {
    const { squares } = this.shown;
    for (let step = 1; step <= squares; step += 1) {
      const square = (at + step) % squares;
      if (this.letter(square) === letter) return square;
    }
    return at;
  }

  /** The first and the last mini-batch of a square. */
  range(square) {
    const { each, total } = this.shown;
    const start = this.from + square * each;
    return [start, Math.min(start + each, this.from + total) - 1];
  }

  layout(width) {
    const { squares } = this.shown;
    let step = LARGEST + GAP;
    while (step > SMALLEST + 1 && Math.ceil(squares / Math.floor(width / step)) * step > TALLEST) step -= 1;
    const columns = Math.max(1, Math.floor(width / step));
    return { step, side: step - (step > 6 ? GAP : 1), columns, rows: Math.ceil(squares / columns) };
  }

  /** `at`: the square with a frame, null for none. */
  paint(canvas, width, at) {
    const { step, side, columns, rows } = this.layout(width);
    const scale = devicePixelRatio;
    canvas.width = width * scale;
    canvas.height = rows * step * scale;
    canvas.style.height = `${rows * step}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const colours = Object.fromEntries(Object.entries(COLOURS).map(([letter, name]) => [letter, css(name)]));
    const ground = css("surface");
    const place = (square) => [(square % columns) * step, Math.floor(square / columns) * step];
    for (let square = 0; square < this.shown.squares; square += 1) {
      cell(pen, this.letter(square), ...place(square), side, colours, ground);
    }
    if (at === null) return;
    pen.strokeStyle = css("foreground");
    pen.lineWidth = 2;
    pen.strokeRect(...place(at), side, side);
  }
}

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
