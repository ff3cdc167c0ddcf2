/**
 * A log that grows: lines come over a socket, and every five seconds when that does not work. The newest lines stay in
 * view until the reader scrolls up or pauses; then they wait behind a button. Only so many lines are kept.
 */
import { copyLine, draw } from "./log-row.js";

const MOST = 5000, ASKED = 40, EVERY = 5000, RETRY = [500, 2000, 5000], IDLE = 4000, BUSY = 4429, FORBIDDEN = 4403, TRY_AGAIN = 12, LASTED = 3000;
const CLOSE_TO_END = 24, CONTEXT = 80;

customElements.define("log-view", class extends HTMLElement {
  connectedCallback() {
    this.list = this.querySelector(".log-rows");
    this.list.addEventListener("click", (event) => copyLine(event.target.closest(".log-copy"), this.dataset.copied));
    for (const select of document.querySelectorAll(".log-bar select")) select.addEventListener("change", () => this.choose(select));
    const marked = this.list.querySelector("[data-marked]");
    if (marked) this.list.scrollTop = marked.offsetTop - this.list.offsetTop - CONTEXT;
    else this.list.scrollTop = this.list.scrollHeight;
    if (!("live" in this.dataset)) return;
    Object.assign(this, { marks: JSON.parse(this.dataset.marks), waiting: [], paused: false, failures: 0 });
    this.news = this.querySelector("[data-news]");
    this.button = this.querySelector("[data-pause]");
    this.button.hidden = false;
    this.button.addEventListener("click", () => this.pause(!this.paused));
    this.news.addEventListener("click", () => this.pause(false));
    this.list.addEventListener("scroll", () => this.scrolled());
    this.seen = () => !document.hidden && !this.socket && this.connect();
    document.addEventListener("visibilitychange", this.seen);
    this.connect();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.seen);
    clearTimeout(this.timer);
    this.marks = null;
    this.socket?.close();
  }

  connect() {
    clearTimeout(this.timer);
    this.show("off");
    const { workspace, endpoint, query } = this.dataset;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/ws/${workspace}/logs/${endpoint}?${query}`);
    this.opened = null;
    this.socket.addEventListener("open", () => {
      this.opened = performance.now();
      this.socket.send(JSON.stringify({ marks: this.marks }));
      this.show("live");
    });
    this.socket.addEventListener("message", (event) => {
      this.failures = 0;
      this.take(JSON.parse(event.data));
      this.socket?.send("{}"); // drawn: what is next?
    });
    this.socket.addEventListener("close", (event) => this.closed(event.code));
  }

  closed(code) {
    this.socket = null;
    if (!this.marks || code === FORBIDDEN) return this.show("off");
    if (document.hidden) return this.show("off"); // comes back with the reader
    const lasted = this.opened !== null && performance.now() - this.opened > LASTED; // else it fails as it opens
    if (lasted) this.failures = 0;
    if (!lasted || code !== IDLE) this.failures += 1;
    if (code === BUSY || this.failures > RETRY.length) return this.poll();
    this.timer = setTimeout(() => this.connect(), RETRY[Math.max(this.failures, 1) - 1]);
    return null;
  }

  /** Asks every few seconds, and every minute for the socket again. */
  async poll(turn = 1) {
    if (document.hidden) return this.show("off");
    if (turn % TRY_AGAIN === 0) return this.connect();
    this.show("polling");
    try {
      const query = new URLSearchParams(this.dataset.query);
      const marks = Object.entries(this.marks), rest = marks.splice(ASKED); // an address holds only so much: these now, others next
      query.set("marks", JSON.stringify(Object.fromEntries(marks)));
      if (rest.length) query.set("only", "1");
      const answer = await fetch(`${this.dataset.lines}?${query}`, { headers: { Accept: "application/json" } });
      if (this.socket) return null; // connected meanwhile: it brings the same lines
      if (answer.ok && !answer.redirected) this.take(await answer.json(), rest);
      else if (answer.status < 500) return this.show("off");
    } catch { /* the next turn tries again */ }
    if (this.marks && !this.socket) this.timer = setTimeout(() => this.poll(turn + 1), EVERY);
    return null;
  }

  take({ lines, marks }, rest = []) {
    if (!this.marks) return;
    this.marks = { ...(rest.length ? Object.fromEntries(rest) : this.marks), ...marks }; // those asked for come last
    this.waiting.push(...lines);
    this.waiting.splice(0, this.waiting.length - MOST);
    if (this.paused) this.count();
    else this.draw();
  }

  draw() {
    this.querySelector("[data-none]")?.remove();
    const icon = this.querySelector("template").content;
    this.list.append(...this.waiting.map((line) => draw(line, this.dataset, icon)));
    this.waiting = [];
    while (this.list.childElementCount > MOST) this.list.firstElementChild.remove();
    this.list.scrollTop = this.list.scrollHeight;
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    const away = scrollTop + clientHeight < scrollHeight - CLOSE_TO_END;
    if (away !== this.paused) this.pause(away);
  }

  pause(wanted) {
    this.paused = wanted;
    this.button.ariaPressed = String(wanted);
    this.count();
    if (!wanted) this.draw();
    if (this.socket) this.show("live");
  }

  count() {
    this.news.hidden = !this.paused || this.waiting.length === 0;
    this.news.textContent = this.dataset.new.replace("{n}", this.waiting.length);
  }

  show(state) {
    const shown = this.querySelector("[data-state]"), name = state === "live" && this.paused ? "paused" : state;
    shown.dataset.tone = { live: "running", polling: "degraded" }[name] ?? "idle";
    shown.textContent = this.dataset[`state${name[0].toUpperCase()}${name.slice(1)}`];
  }

  choose(select) {
    if (select.name === "deployment") select.form.elements.instance.value = ""; // an instance of another one
    select.form.requestSubmit();
  }
});
