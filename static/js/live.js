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
const EACH = 1000; // a busy job changes many times a second; its page follows once
const waiting = new Map();

/** At once when it was quiet, else at the end of the second; the last change is never left out. */
function tellSoon(name) {
  const open = waiting.get(name);
  if (open) {
    open.again = true;
    return;
  }
  const turn = { again: false };
  waiting.set(name, turn);
  setTimeout(() => {
    waiting.delete(name);
    if (turn.again) tellSoon(name);
  }, EACH);
  tell(name);
}
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
    for (const topic of topics) tellSoon(eventName(topic));
    if (topics.some((topic) => topic.startsWith("online-"))) tellSoon("changed:online-endpoints");
    if (topics.some((topic) => topic.startsWith("batch-"))) tellSoon("changed:batch-endpoints");
    if (topics.some((topic) => topic.startsWith("cluster/"))) tellSoon("changed:clusters");
    if (topics.some((topic) => topic.startsWith("operation:"))) tellSoon("changed:operations");
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
    return !(CHOSEN.includes(name) && node.closest?.("tab-box, deploy-form"));
  };
  // What these elements have put into themselves stays; only what the server says about their field is taken over.
  window.Idiomorph.defaults.callbacks.beforeNodeMorphed = (node, fresh) => {
    if (node.matches?.("batch-map")) return false; // it fetches what it draws itself
    if (!node.matches?.("code-editor, asset-picker")) return true;
    const [field, told] = [node, fresh].map((each) => each.querySelector("input, textarea"));
    for (const name of ["aria-invalid", "aria-describedby"]) {
      if (told?.hasAttribute(name)) field.setAttribute(name, told.getAttribute(name));
      else field.removeAttribute(name);
    }
    node.told?.();
    return false;
  };
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
