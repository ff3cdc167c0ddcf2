/** Copies the text of its <code> with one press; no selection needed. */
customElements.define("copy-text", class extends HTMLElement {
  connectedCallback() {
    this.querySelector("button")?.addEventListener("click", async (event) => {
      const button = event.currentTarget;
      await copy(this.querySelector("code").textContent);
      announce(this.dataset.done);
      const use = button.querySelector("use");
      const before = use.getAttribute("href");
      use.setAttribute("href", before.replace(/#.*/, "#check"));
      setTimeout(() => use.setAttribute("href", before.replace(/#.*/, "#copy")), 1500);
    });
  }
});

export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text, className: "sr-only" });
  document.body.append(area); // plain http has no clipboard API
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function announce(text) {
  const region = document.getElementById("announce");
  if (region) region.textContent = text ?? "";
}
