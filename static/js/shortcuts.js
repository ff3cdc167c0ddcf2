/**
 * The keyboard: / filters, g and a letter goes, c creates, t tests, ? lists all of this, arrows move between rows. Who
 * talks to the computer or types by accident switches the single keys off in the list, which Ctrl-K leads to as well.
 */
const PLACES = { h: "home", e: "endpoints", j: "jobs", d: "data", m: "models", v: "environments", o: "operations" };
const typing = (target) => target.closest("input, textarea, select, [contenteditable], dialog, code-editor");
const SWITCH = "single-keys";
const single = () => localStorage.getItem(SWITCH) !== "off";
let after = null;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || typing(event.target)) return;
  if (after) {
    const place = document.querySelector(`[data-place="${PLACES[event.key]}"]`);
    clearTimeout(after);
    after = null;
    if (place) {
      event.preventDefault();
      location.assign(place.href);
    }
    return;
  }
  if (act(event.key, event.target)) event.preventDefault();
});

function act(key, target) {
  if (key === "ArrowDown" || key === "ArrowUp") return row(target, key === "ArrowDown" ? 1 : -1);
  if (!single()) return false;
  if (key === "g") after = setTimeout(() => { after = null; }, 1200);
  else if (key === "/") return focus(document.querySelector("main input[type=search]"));
  else if (key === "?") document.getElementById("shortcuts")?.showModal();
  else if (key === "c" || key === "t") return press(document.querySelector(`main [data-shortcut="${key}"]:not([disabled])`));
  else return false;
  return true;
}

function focus(element) {
  element?.focus();
  return Boolean(element);
}

function press(element) {
  element?.click();
  return Boolean(element);
}

/** From row to row of a list, by the link each row begins with. Elsewhere the arrows scroll. */
function row(target, step) {
  const here = target.closest("tr");
  const links = [...(here?.closest("[data-rows]")?.querySelectorAll("tbody .row-link") ?? [])];
  const at = links.findIndex((each) => here.contains(each));
  return at >= 0 && focus(links[Math.max(0, Math.min(links.length - 1, at + step))]);
}

const box = document.querySelector("[data-single-keys]");
if (box) box.checked = single();
box?.addEventListener("change", () => localStorage.setItem(SWITCH, box.checked ? "on" : "off"));
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
