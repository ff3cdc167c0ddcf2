/**
 * A text field that suggests: what is typed is searched on the server, arrows choose, Enter takes. The value is the
 * text itself (name:version), so the field works without this script too.
 */
let count = 0;

customElements.define("asset-picker", class extends HTMLElement {
  connectedCallback() {
    if (this.list) return; // moved, not made
    this.input = this.querySelector("input");
    count += 1;
    this.list = Object.assign(document.createElement("ul"), { id: `pick-${count}`, className: "picks", hidden: true });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", this.dataset.label ?? "");
    this.append(this.list);
    for (const [name, value] of [["role", "combobox"], ["aria-expanded", "false"], ["aria-controls", this.list.id], ["aria-autocomplete", "list"], ["autocomplete", "off"]]) this.input.setAttribute(name, value);
    this.input.addEventListener("input", () => this.later());
    this.input.addEventListener("focus", () => this.search());
    this.input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("pointerdown", (event) => {
      const option = event.target.closest("[role=option]");
      event.preventDefault();
      if (option) this.take(option);
    });
  }

  later() {
    clearTimeout(this.timer);
    this.turn = (this.turn ?? 0) + 1; // an answer on its way is to what was typed before
    this.timer = setTimeout(() => this.search(), 150);
  }

  async search() {
    this.turn = (this.turn ?? 0) + 1;
    const { turn } = this;
    const url = new URL(this.dataset.url, location.href);
    url.searchParams.set("q", this.input.value);
    const answer = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer?.ok || turn !== this.turn || document.activeElement !== this.input) return;
    this.draw((await answer.json()).found);
  }

  draw(found) {
    this.at = -1;
    this.list.replaceChildren(...found.map((each, index) => {
      const option = Object.assign(document.createElement("li"), { id: `${this.list.id}-${index}` });
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.dataset.value = each.value;
      const name = Object.assign(document.createElement("span"), { className: "mono truncate", textContent: each.value });
      option.append(name, Object.assign(document.createElement("span"), { className: "meta", textContent: each.note ?? "" }));
      return option;
    }));
    this.list.hidden = !found.length;
    this.input.setAttribute("aria-expanded", String(found.length > 0));
    this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.isComposing) return;
    const options = [...this.list.children];
    if (event.key === "Escape" && !this.list.hidden) {
      event.stopPropagation();
      this.close();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && options.length && !this.list.hidden) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.at = (this.at + step + options.length) % options.length;
      options.forEach((each, index) => each.setAttribute("aria-selected", String(index === this.at)));
      options[this.at].scrollIntoView({ block: "nearest" });
      this.input.setAttribute("aria-activedescendant", options[this.at].id);
    } else if (event.key === "Enter" && this.at >= 0 && !this.list.hidden) {
      event.preventDefault();
      this.take(options[this.at]);
    }
  }

  take(option) {
    this.input.value = option.dataset.value;
    this.close();
    this.input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  close() {
    this.list.hidden = true;
    this.at = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
});
