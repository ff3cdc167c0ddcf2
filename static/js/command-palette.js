/** Ctrl-K: everything of the workspace by name, and what one can do. A native dialog, so Esc and focus are the browser's. */
customElements.define("command-palette", class extends HTMLElement {
  connectedCallback() {
    this.dialog = this.querySelector("dialog");
    this.input = this.querySelector("input");
    this.list = this.querySelector("[role=listbox]");
    document.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
        event.preventDefault();
        this.open();
      }
    });
    for (const button of document.querySelectorAll("[data-palette]")) button.addEventListener("click", () => this.open());
    this.input.addEventListener("input", () => this.later());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("click", (event) => this.follow(event.target.closest("[role=option]")));
    this.querySelector("[data-keys]").addEventListener("click", () => {
      this.dialog.close();
      document.getElementById("shortcuts").showModal();
    });
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  open() {
    if (this.dialog.open) return;
    this.input.value = "";
    this.entered = false;
    this.dialog.showModal();
    this.search();
  }

  later() {
    clearTimeout(this.timer);
    this.waiting = true; // what is shown is not yet what was typed
    this.turn = (this.turn ?? 0) + 1; // an answer on its way is to what was typed before
    this.timer = setTimeout(() => this.search(), 120);
  }

  async search() {
    this.turn = (this.turn ?? 0) + 1;
    const { turn } = this;
    const url = new URL(this.dataset.url, location.href);
    url.searchParams.set("q", this.input.value);
    const answer = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
    const found = answer?.ok ? (await answer.json()).found : [];
    if (turn !== this.turn) return;
    this.waiting = false;
    this.draw(found);
    if (this.entered) this.follow(this.list.children[this.at]);
    this.entered = false;
  }

  draw(found) {
    this.list.replaceChildren(...found.map((each, index) => {
      const option = Object.assign(document.createElement("li"), { id: `found-${index}` });
      option.setAttribute("role", "option");
      option.dataset.href = each.href;
      option.append(this.icon(each.icon), Object.assign(document.createElement("span"), { className: "truncate", textContent: each.title }));
      option.append(Object.assign(document.createElement("span"), { className: "meta", textContent: each.note }));
      return option;
    }));
    this.querySelector("[data-none]").hidden = found.length > 0;
    this.mark(0);
  }

  icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${this.dataset.sprite}#${name}`);
    svg.append(use);
    return svg;
  }

  mark(index) {
    const options = [...this.list.children];
    this.at = options.length ? (index + options.length) % options.length : -1;
    options.forEach((each, place) => each.setAttribute("aria-selected", String(place === this.at)));
    const chosen = options[this.at];
    if (chosen) {
      this.input.setAttribute("aria-activedescendant", chosen.id);
      chosen.scrollIntoView({ block: "nearest" });
    } else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.mark(this.at + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.waiting) this.entered = true; // follows as soon as the answer is there
      else this.follow(this.list.children[this.at]);
    }
  }

  follow(option) {
    if (option) location.assign(option.dataset.href);
  }
});
