/**
 * Nothing typed is lost: what stands in the form outlives a reload, a wrong click and an expired session, in this tab
 * only, until the form was taken. Passwords and files are not kept.
 */
const LIMIT = 200_000;
const KEPT = "input:not([type=hidden], [type=password], [type=file], [type=submit]), select, textarea";

customElements.define("keep-draft", class extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.place = `draft:${location.pathname}:${this.dataset.key ?? ""}`;
    this.form.addEventListener("input", () => this.save());
    this.form.addEventListener("change", () => this.save());
    document.body.addEventListener("htmx:beforeOnLoad", (event) => {
      if (event.detail.elt === this.form && event.detail.xhr.getResponseHeader("HX-Redirect")) this.drop();
    });
    if (!this.form.querySelector("[aria-invalid=true], .error")) this.restore();
  }

  fields() {
    return [...this.form.querySelectorAll(KEPT)].filter((each) => each.name && !each.disabled);
  }

  save() {
    const values = this.fields().map((each) => [each.name, each.type === "radio" || each.type === "checkbox" ? `${each.value}=${each.checked}` : each.value]);
    const text = JSON.stringify(values);
    if (text.length < LIMIT) sessionStorage.setItem(this.place, text);
  }

  restore() {
    const text = sessionStorage.getItem(this.place);
    if (!text) return;
    const kept = JSON.parse(text);
    let changed = false;
    for (const field of this.fields()) {
      const choice = field.type === "radio" || field.type === "checkbox";
      const found = kept.find(([name, value]) => name === field.name && (!choice || value.startsWith(`${field.value}=`)));
      if (!found) continue;
      if (choice) {
        const on = found[1].endsWith("=true");
        changed ||= field.checked !== on;
        field.checked = on;
      } else if (field.value !== found[1]) {
        if (field.tagName === "SELECT" && ![...field.options].some((each) => each.value === found[1])) continue;
        field.value = found[1];
        changed = true;
      }
    }
    if (changed) this.tell();
  }

  tell() {
    const note = Object.assign(document.createElement("p"), { className: "note", textContent: `${this.dataset.restored} ` });
    note.setAttribute("role", "status");
    const over = Object.assign(document.createElement("button"), { type: "button", className: "btn", textContent: this.dataset.over });
    over.dataset.variant = "outline";
    over.dataset.size = "xs";
    over.addEventListener("click", () => {
      this.drop();
      location.reload();
    });
    note.append(over);
    this.prepend(note);
    for (const name of ["draft", "change"]) this.form.dispatchEvent(new Event(name));
  }

  drop() {
    sessionStorage.removeItem(this.place);
  }
});
