/** A text file that is chosen is put into a text field, to be looked at and changed; without this script it is sent. */
customElements.define("file-text", class extends HTMLElement {
  connectedCallback() {
    if (this.input) return; // moved, not made
    this.input = this.querySelector("input[type=file]");
    this.input.addEventListener("change", () => this.take());
  }

  async take() {
    const [file] = this.input.files;
    if (!file) return;
    const note = this.querySelector("[role=status]");
    const most = Number(this.dataset.most);
    const text = file.size > 4 * most ? null : await file.text().catch(() => null);
    this.input.value = "";
    const taken = text !== null && text.length <= most;
    note.textContent = taken ? file.name : `${this.dataset.large} ${file.name}`;
    if (!taken) return;
    const area = this.closest("form").elements.namedItem(this.dataset.to);
    area.value = text.replace(/^\ufeff/, "");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
});
