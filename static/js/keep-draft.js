/**
 * Nothing typed is lost: what a person changed in the form outlives a reload, a wrong click and an expired session, in
 * this tab only, until the form was taken or the person signs out. A field is put back only where the server still says
 * what it said when it was changed. Passwords, files and environment variables are not kept.
 */
const PREFIX = "draft:";
const LIMIT = 200_000;
const KEPT = "input:not([type=hidden], [type=password], [type=file], [type=submit]), select, textarea";
const NEVER = ["environment_variables"];
const isChoice = (field) => field.type === "radio" || field.type === "checkbox";

/** What the fields of one name hold; `first`: what they held when the page came. */
function held(fields, first) {
  return JSON.stringify(fields.filter((each) => !isChoice(each) || (first ? each.defaultChecked : each.checked)).map((each) => {
    if (!first || isChoice(each)) return each.value;
    return each.tagName === "SELECT" ? ([...each.options].find((option) => option.defaultSelected) ?? each.options[0])?.value ?? "" : each.defaultValue;
  }));
}

function drop(beginning) {
  for (const place of Object.keys(sessionStorage)) if (place.startsWith(beginning)) sessionStorage.removeItem(place);
}

customElements.define("keep-draft", class extends HTMLElement {
  connectedCallback() {
    if (this.form) return; // moved, not made
    this.form = this.querySelector("form");
    this.place = `${PREFIX}${this.dataset.user}:${location.pathname}:${this.dataset.key ?? ""}`;
    this.first = new Map([...this.fields()].map(([name, fields]) => [name, held(fields, true)]));
    this.form.addEventListener("input", () => this.save());
    this.form.addEventListener("change", () => this.save());
    document.body.addEventListener("htmx:beforeOnLoad", (event) => {
      if (event.detail.elt === this.form && event.detail.xhr.getResponseHeader("HX-Redirect")) this.drop();
    });
    if (!this.form.querySelector("[aria-invalid=true], .error")) this.restore();
  }

  /** Name by name. */
  fields() {
    const found = new Map();
    for (const each of this.form.querySelectorAll(KEPT)) {
      if (each.name && !each.disabled && !NEVER.includes(each.name)) found.set(each.name, [...(found.get(each.name) ?? []), each]);
    }
    return found;
  }

  save() {
    const changed = [...this.fields()].map(([name, fields]) => [name, this.first.get(name), held(fields)]).filter(([, before, now]) => before !== now);
    const text = JSON.stringify(changed);
    if (!changed.length) sessionStorage.removeItem(this.place);
    else if (text.length < LIMIT) sessionStorage.setItem(this.place, text);
  }

  restore() {
    const kept = JSON.parse(sessionStorage.getItem(this.place) ?? "[]");
    const fields = this.fields();
    let changed = false;
    for (const [name, before, now] of kept) if (this.first.get(name) === before) changed = put(fields.get(name), JSON.parse(now)) || changed;
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

/** True when that changed something. A choice that is no longer offered is left alone. */
function put(fields, values) {
  const had = held(fields);
  const offered = (field) => field.tagName !== "SELECT" || [...field.options].some((each) => each.value === values[0]);
  for (const [index, field] of fields.entries()) {
    if (isChoice(field)) field.checked = values.includes(field.value);
    else if (index in values && offered(field)) field.value = values[index];
  }
  return held(fields) !== had;
}

document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-sign-out]")) drop(PREFIX);
});
