/** The change a form would make, as code, while it is typed. Texts only: the tabs around them stay as they are. */
customElements.define("live-code", class extends HTMLElement {
  connectedCallback() {
    this.form = document.getElementById(this.dataset.form);
    for (const kind of ["input", "change", "draft"]) this.form?.addEventListener(kind, () => this.later());
    this.form?.addEventListener("submit", () => this.stop());
  }

  disconnectedCallback() {
    this.stop();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 250);
  }

  stop() {
    clearTimeout(this.timer);
    this.running?.abort();
  }

  async ask() {
    this.stop();
    this.running = new AbortController();
    const body = new FormData();
    for (const [name, value] of new FormData(this.form)) if (typeof value === "string") body.append(name, value);
    const request = { method: "POST", body, signal: this.running.signal, headers: { "X-As-Code": "1" } };
    const answer = await fetch(this.form.action, request).catch(() => null); // aborted or away: the old text stays
    if (!answer?.ok) return;
    const texts = await answer.json().catch(() => ({}));
    for (const [id, text] of Object.entries(texts)) {
      const code = this.querySelector(`[role=tabpanel][id$="-${CSS.escape(id)}"] code`);
      if (code) code.textContent = text;
    }
  }
});
