/** Tabs over panels, by mouse and arrow keys. What was chosen is remembered for boxes of the same group. */
customElements.define("tab-box", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", (event) => {
      const tab = event.target.closest("[role=tab]");
      if (tab) this.choose(tab, true);
    });
    this.addEventListener("keydown", (event) => this.key(event));
    const wanted = sessionStorage.getItem(this.place);
    const tab = wanted && this.tabs.find((each) => each.dataset.tab === wanted);
    if (tab) this.choose(tab, false);
  }

  get place() {
    return `tab:${this.dataset.group}`;
  }

  get tabs() {
    return [...this.querySelectorAll("[role=tab]")];
  }

  choose(tab, remember) {
    for (const each of this.tabs) {
      const on = each === tab;
      each.setAttribute("aria-selected", String(on));
      each.tabIndex = on ? 0 : -1;
      document.getElementById(each.getAttribute("aria-controls")).hidden = !on;
    }
    if (remember) sessionStorage.setItem(this.place, tab.dataset.tab);
  }

  key(event) {
    const { tabs } = this;
    const at = tabs.indexOf(event.target);
    if (at < 0) return;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    this.choose(tab, true);
    tab.focus();
  }
});
