/** Shows the code and environment fields only for models that need them. */
customElements.define("deploy-form", class extends HTMLElement {
  connectedCallback() {
    const model = this.querySelector("select[name=model]");
    const script = this.querySelector("[data-script]");
    const draw = () => {
      script.hidden = model.selectedOptions[0]?.dataset.type === "mlflow_model";
      script.disabled = script.hidden;
    };
    model.addEventListener("change", draw);
    draw();
  }
});
