/** "3 minutes ago", kept true while the page is open. The server's text stays as the title. */
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const format = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto" });
const shown = new Set();

function draw(element) {
  const seconds = (Date.parse(element.getAttribute("datetime")) - Date.now()) / 1000;
  if (Number.isNaN(seconds)) return;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  const text = format.format(Math.round(seconds / size), unit);
  if (element.textContent !== text) element.textContent = text;
}

customElements.define("relative-time", class extends HTMLElement {
  static observedAttributes = ["datetime"];
  connectedCallback() {
    shown.add(this);
    draw(this);
    this.watch = new MutationObserver(() => draw(this)); // a morph writes the server's text back
    this.watch.observe(this, { childList: true, characterData: true, subtree: true });
  }
  disconnectedCallback() {
    shown.delete(this);
    this.watch.disconnect();
  }
  attributeChangedCallback() {
    if (this.isConnected) draw(this);
  }
});
setInterval(() => shown.forEach(draw), 10_000);
