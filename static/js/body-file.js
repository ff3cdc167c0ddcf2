/** A file as the request's body, with a preview of an image; or put into the JSON as base64 where the cursor's text is. */
const MOST = 10 * 2 ** 20;
const MOST_INSERTED = 7 * 2 ** 20; // as base64 it grows by a third

customElements.define("body-file", class extends HTMLElement {
  connectedCallback() {
    this.input = this.querySelector("input[type=file]");
    this.area = this.querySelector("textarea");
    this.preview = this.querySelector("[data-preview]");
    this.input.addEventListener("change", () => this.draw());
    this.querySelector("[data-clear]").addEventListener("click", () => this.clear());
    this.querySelector("[data-insert]").addEventListener("click", () => this.insert());
    this.draw();
  }

  draw() {
    const file = this.input.files[0];
    const large = file && file.size > MOST;
    if (large) this.input.value = "";
    const heavy = file && file.size > MOST_INSERTED;
    const name = this.querySelector("[data-name]");
    name.textContent = large ? this.dataset.large : file ? `${file.name} · ${file.type || "application/octet-stream"} · ${Math.ceil(file.size / 1024)} KiB` : "";
    if (heavy && !large) name.textContent = `${this.dataset.more} ${name.textContent}`;
    this.querySelector("[data-clear]").hidden = !file || large;
    this.querySelector("[data-insert]").hidden = !file || heavy;
    this.preview.hidden = true;
    if (file && !large && file.type.startsWith("image/")) {
      const reader = new FileReader();
      reader.addEventListener("load", () => {
        this.preview.src = reader.result;
        this.preview.hidden = false;
      });
      reader.readAsDataURL(file);
    }
  }

  clear() {
    this.input.value = "";
    this.draw();
  }

  /** What a model that takes images in a table wants: one column, one row, the bytes as base64. */
  async insert() {
    const bytes = new Uint8Array(await this.input.files[0].arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    const body = { input_data: { columns: ["image"], index: [0], data: [[btoa(text)]] } };
    this.area.value = JSON.stringify(body, null, 2);
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
    this.clear();
  }
});
