/** Shows only what the choices made so far ask for: the new or the existing endpoint, code for models that need it. */
customElements.define("deploy-form", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", () => this.draw());
    this.draw();
  }

  draw() {
    const target = this.querySelector("input[name=target]:checked")?.value;
    for (const part of this.querySelectorAll("[data-when]")) part.hidden = target !== undefined && part.dataset.when !== target;
    const model = this.querySelector("input[name=model]");
    const script = this.querySelector("[data-script]");
    const described = model?.dataset.type === "mlflow_model" && !this.querySelector("input[name=scoring_script]").value;
    if (script && described !== this.described) script.open = !described;
    this.described = described;
    const note = this.querySelector("[data-described]");
    if (note) note.hidden = !described;
  }
});
