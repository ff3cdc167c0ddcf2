/** A secret that is fetched only when asked for, shown for half a minute, and can be copied without being shown. */
import { announce, copy } from "./copy-text.js";

const SHOWN_MS = 30_000;

customElements.define("key-reveal", class extends HTMLElement {
  connectedCallback() {
    this.code = this.querySelector("code");
    this.masked = this.code.textContent;
    this.querySelector("[data-show]").addEventListener("click", () => (this.timer ? this.hide() : this.show()));
    this.querySelector("[data-copy]").addEventListener("click", () => this.copy());
  }
  disconnectedCallback() {
    clearTimeout(this.timer);
  }
  async fetch() {
    const headers = { "X-CSRFToken": this.dataset.csrf, Accept: "application/json" };
    const answer = await fetch(this.dataset.url, { method: "POST", headers, credentials: "same-origin" }).catch(() => null);
    if (answer?.ok) return (await answer.json()).value;
    const problem = await answer?.json().catch(() => null);
    this.code.textContent = problem?.message ?? this.dataset.failed;
    return null;
  }
  async show() {
    const value = await this.fetch();
    if (value === null) return;
    this.code.textContent = value;
    this.icon("eye-off");
    this.timer = setTimeout(() => this.hide(), SHOWN_MS);
  }
  hide() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.code.textContent = this.masked;
    this.icon("eye");
  }
  icon(name) {
    const use = this.querySelector("[data-show] use");
    use.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${name}`));
  }
  async copy() {
    const value = await this.fetch();
    if (value === null) return;
    await copy(value);
    announce(this.dataset.copied);
    const use = this.querySelector("[data-copy] use");
    const before = use.getAttribute("href");
    use.setAttribute("href", before.replace(/#.*/, "#check"));
    setTimeout(() => use.setAttribute("href", before.replace(/#.*/, "#copy")), 1500);
  }
});
