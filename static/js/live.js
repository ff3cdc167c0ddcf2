/**
 * Live pages. The socket names topics that changed; each becomes an event on <body>, and fragments that wait for it
 * fetch themselves again through their ordinary page. "tick" is the fallback: every 5 s while the socket is away, every
 * 15 s while it is there, never in a hidden tab.
 */
const body = document.body;
const workspace = body.dataset.workspace;
const TICK = 5000;
let connected = false;
let attempt = 0;
let ticks = 0;

const tell = (name) => body.dispatchEvent(new CustomEvent(name));
const eventName = (topic) => `changed:${topic.replace(/[^A-Za-z0-9_-]/g, "-")}`;

function connect() {
  const url = new URL(`/ws/${encodeURIComponent(workspace)}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.addEventListener("open", () => {
    connected = true;
    if (attempt > 0) tell("tick"); // what happened meanwhile
    attempt = 0;
  });
  socket.addEventListener("message", (message) => {
    const topics = JSON.parse(message.data).changed ?? [];
    for (const topic of topics) tell(eventName(topic));
    if (topics.some((topic) => topic.startsWith("online-"))) tell("changed:online-endpoints");
    if (topics.some((topic) => topic.startsWith("operation:"))) tell("changed:operations");
  });
  socket.addEventListener("close", () => {
    connected = false;
    attempt += 1;
    setTimeout(connect, Math.min(60, 2 ** attempt) * 1000 * (0.75 + Math.random() / 2));
  });
}

function tick() {
  ticks += 1;
  if (!document.hidden && (!connected || ticks % 3 === 0)) tell("tick");
}

function complain(text) {
  document.querySelector(".toast")?.remove();
  const toast = Object.assign(document.createElement("div"), { className: "toast", role: "alert", textContent: text });
  body.append(toast);
  setTimeout(() => toast.remove(), 8000);
}

if (workspace) {
  connect();
  setInterval(tick, TICK);
  document.addEventListener("visibilitychange", () => !document.hidden && tell("tick"));
}

// What people opened or chose stays so when a fragment is drawn again.
const CHOSEN = ["aria-selected", "tabindex", "hidden"];
window.addEventListener("DOMContentLoaded", () => {
  if (!window.Idiomorph) return;
  window.Idiomorph.defaults.ignoreActiveValue = true;
  window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => {
    if (name === "open" && node.tagName === "DETAILS") return false;
    return !(CHOSEN.includes(name) && node.closest?.("tab-box, code-editor, deploy-form"));
  };
});
// A form that was refused: the first field that needs a look gets the focus.
body.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id !== "form-area") return;
  const bad = event.target.querySelector("[data-invalid] :is(input, textarea, select)") ?? event.target.querySelector(".problem");
  bad?.closest("details")?.setAttribute("open", "");
  bad?.scrollIntoView({ block: "center" });
  bad?.focus();
});
body.addEventListener("htmx:responseError", (event) => {
  if (event.detail.requestConfig.verb !== "get") complain(`${body.dataset.failed} (${event.detail.xhr.status})`);
});
body.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") complain(body.dataset.failed);
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (event.key === "Escape" && menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
