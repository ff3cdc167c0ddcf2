/** One line of a log as a row; the same as templates/studio/parts/log_row.html. All text of strangers stays text. */
import { announce, copy } from "./copy-text.js";

function element(name, className, text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

export function draw({ at, day, time, who, hue, stderr, level, text, rest }, words, icon) {
  const row = element("li", "log-row"), dot = element("i", "log-dot"), when = element("time", "", ` ${time}`);
  row.dataset.level = dot.title = level;
  when.dateTime = at;
  when.prepend(element("span", "log-day", day));
  const name = element("span", "log-who", who), swatch = element("i", "swatch"), said = element("span", "log-text", text);
  swatch.dataset.hue = hue;
  name.prepend(swatch);
  if (stderr) said.prepend(element("b", "log-err", "err"));
  if (rest) {
    const more = element("details", "log-rest", rest);
    more.prepend(element("summary", "", words.all));
    said.append(more);
  }
  const button = Object.assign(element("button", "log-copy"), { type: "button", title: words.copy });
  button.append(icon.cloneNode(true));
  row.append(dot, when, name, said, button);
  return row;
}

/** The line as text, with its whole time; `done` is what is said then. */
export async function copyLine(button, done) {
  if (!button) return;
  const row = button.closest(".log-row"), said = row.querySelector(".log-text").cloneNode(true);
  for (const extra of said.querySelectorAll(".log-err, summary")) extra.remove();
  await copy(`${row.querySelector("time").dateTime} ${said.textContent}`);
  announce(done);
}
