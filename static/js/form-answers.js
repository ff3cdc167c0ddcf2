/**
 * What becomes of a form that htmx has sent. A refused one: its first field that needs a look gets the focus. A problem
 * that is no part of the form stands above it. Anything else is said in a toast. What was typed stays in every case.
 */
const body = document.body;
const CONTROL = "input:not([type=hidden]), textarea, select, code-editor";
let focused = null;

const isRead = (event) => event.detail.requestConfig.verb === "get";

function complain(text) {
  document.querySelector(".toast")?.remove();
  const toast = Object.assign(document.createElement("div"), { className: "toast", role: "alert", textContent: text });
  body.append(toast);
  setTimeout(() => toast.remove(), 8000);
}

/** Whether the answer holds what its place is waiting for: a whole page with something else would only empty it. */
function fits(element, text) {
  const wanted = element.closest("[hx-select]")?.getAttribute("hx-select");
  return wanted?.startsWith("#") ? text.includes(`id="${wanted.slice(1)}"`) : !/^\s*<!doctype/i.test(text);
}

body.addEventListener("htmx:beforeSwap", (event) => {
  const { detail } = event;
  if (detail.xhr.status < 400) return;
  const placed = detail.xhr.getResponseHeader("HX-Retarget");
  detail.shouldSwap = placed ? Boolean(detail.target) : fits(detail.requestConfig.elt, detail.serverResponse);
  detail.isError = !detail.shouldSwap;
  if (placed && isRead(event) && detail.target?.firstElementChild) detail.shouldSwap = false; // said already
});
body.addEventListener("htmx:afterSettle", (event) => {
  const area = event.target;
  if (area.id === "problems") {
    const problem = area.querySelector(".problem");
    problem?.scrollIntoView({ block: "center" });
    if (!isRead(event)) problem?.focus();
  }
  if (area.id !== "form-area") return;
  for (const each of area.querySelectorAll("details:has([data-invalid])")) each.open = true;
  const bad = [...area.querySelectorAll("[data-invalid]")].map((each) => each.querySelector(CONTROL)).find(Boolean);
  const told = bad?.closest("code-editor") ?? bad ?? area.querySelector(".problem, .error");
  told?.scrollIntoView({ block: "center" });
  told?.focus();
});
// A button that is disabled while the form is on its way loses the focus: it gets it back.
body.addEventListener("htmx:beforeRequest", (event) => {
  if (isRead(event)) return;
  focused = event.detail.elt.contains(document.activeElement) ? document.activeElement : null;
  document.getElementById("problems")?.replaceChildren();
});
body.addEventListener("htmx:afterRequest", (event) => {
  if (isRead(event)) return;
  if (document.activeElement === body && focused?.isConnected) focused.focus();
  focused = null;
});
body.addEventListener("htmx:afterSwap", (event) => {
  const said = event.detail.target.querySelector("[data-announce]")?.dataset.announce;
  if (said && !isRead(event)) document.getElementById("announce").textContent = said;
});
body.addEventListener("htmx:responseError", (event) => {
  if (!isRead(event)) complain(`${body.dataset.failed} (${event.detail.xhr.status})`);
});
body.addEventListener("htmx:sendError", (event) => {
  if (!isRead(event)) complain(body.dataset.away);
});
// A field the browser points at may be folded away.
document.addEventListener("invalid", (event) => {
  for (let fold = event.target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}, true);
