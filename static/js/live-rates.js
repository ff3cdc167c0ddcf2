/**
 * Requests per second now: asks for the counters each second while the page is seen and shows what was added over the last
 * few. Each [data-rate="<deployment>"] inside gets a number; [data-failing] and [data-active] beside it get theirs.
 */
const EVERY = 1000;
const WINDOW = 5; // answers: the rate is over the last four seconds
const LONGEST = 30_000;

customElements.define("live-rates", class extends HTMLElement {
  connectedCallback() {
    this.past = [];
    this.pause = EVERY;
    this.seen = () => (document.hidden ? this.stop() : this.ask());
    document.addEventListener("visibilitychange", this.seen);
    if (!document.hidden) this.ask();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.seen);
    this.stop();
  }

  stop() {
    clearTimeout(this.timer);
    this.past = []; // a rate over the time nobody looked would be none of now
  }

  async ask() {
    clearTimeout(this.timer);
    try {
      const answer = await fetch(this.dataset.src, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const now = await answer.json();
      if (!now.deployments) throw new Error("the gateway does not answer");
      this.show(now);
      this.pause = EVERY;
    } catch {
      this.past = [];
      this.pause = Math.min(LONGEST, this.pause * 2);
      this.blank();
    }
    if (this.isConnected && !document.hidden) this.timer = setTimeout(() => this.ask(), this.pause);
  }

  show(now) {
    this.past = [...this.past, now].slice(-WINDOW);
    const before = this.past[0];
    const seconds = now.at - before.at;
    if (seconds < 0) this.past = [now]; // another worker answered, whose clock began elsewhere
    for (const [name, counted] of Object.entries(now.deployments)) {
      const old = before.deployments[name];
      const grown = (kind) => (old && seconds > 0 && counted[kind] >= old[kind] ? (counted[kind] - old[kind]) / seconds : null);
      this.write(name, "rate", grown("requests"));
      this.write(name, "failing", grown("errors"));
      this.write(name, "active", counted.active, 0);
    }
  }

  blank() {
    for (const node of this.querySelectorAll("[data-rate], [data-failing], [data-active]")) node.textContent = "–";
  }

  write(name, kind, value, digits = 1) {
    const text = value === null ? "–" : value.toFixed(value < 100 ? digits : 0);
    for (const node of this.querySelectorAll(`[data-${kind}="${CSS.escape(name)}"]`)) {
      if (node.textContent !== text) node.textContent = text;
      if (kind === "failing") node.toggleAttribute("data-some", value > 0);
    }
  }
});
