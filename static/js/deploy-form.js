/**
 * Shows only what the choices made so far ask for: the new or the existing endpoint, code for models that need it.
 * What is typed is looked up like what is picked, so both have the same consequences.
 */
customElements.define("deploy-form", class extends HTMLElement {
  connectedCallback() {
    if (this.known) return; // moved, not made
    this.model = this.querySelector("input[name=model]");
    this.endpoint = this.querySelector("input[name=endpoint]");
    this.environment = this.querySelector("input[name=environment]");
    this.share = this.querySelector("input[name=share]");
    this.known = new Map(); // of an input: what the server knows about its value
    this.waiting = new Map();
    this.addEventListener("change", () => this.draw());
    this.closest("form")?.addEventListener("draft", () => this.begin());
    for (const input of this.asked()) {
      input.addEventListener("input", () => this.later(input, 250));
      input.addEventListener("change", () => this.later(input, 0));
    }
    this.share?.addEventListener("input", () => { this.edited = true; });
    this.begin();
  }

  /** As the server or a draft filled it in: the share is taken as it is. */
  begin() {
    this.usual = undefined;
    this.edited = this.share ? !["0", "100"].includes(this.share.value) : true;
    for (const input of this.asked()) if (input.value) this.later(input, 0);
    this.draw();
  }

  asked() { return [this.model, this.endpoint, this.environment].filter(Boolean); }

  later(input, wait) {
    if (this.known.get(input)?.asked === input.value) return;
    this.known.delete(input);
    this.draw();
    clearTimeout(this.waiting.get(input));
    this.waiting.set(input, setTimeout(() => this.learn(input), wait));
  }

  async learn(input) {
    const asked = input.value;
    const text = asked.trim().replace(/^azureml:/, "").replace(/@latest$/, "");
    const versioned = input !== this.endpoint;
    const url = new URL(input.closest("asset-picker").dataset.url, location.href);
    url.searchParams.set("q", versioned && !text.includes(":") ? `${text}:` : text);
    const answer = text && await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer?.ok || asked !== input.value) return;
    const { found } = await answer.json();
    const same = (each) => each.value === text || (versioned && !text.includes(":") && each.value.startsWith(`${text}:`));
    this.known.set(input, { ...found.find(same), asked });
    this.draw();
  }

  draw() {
    const target = this.querySelector("input[name=target]:checked")?.value;
    for (const part of this.querySelectorAll("[data-when]")) part.hidden = target !== undefined && part.dataset.when !== target;
    const script = this.querySelector("[data-script]");
    const type = this.known.get(this.model)?.type;
    const described = ["mlflow_model", "triton_model"].includes(type) && !this.querySelector("input[name=scoring_script]").value;
    if (script && described !== this.described) script.open = !described || Boolean(script.querySelector("[data-invalid]"));
    this.described = described;
    const packaged = this.querySelector("[data-packaged]");
    if (packaged) packaged.hidden = this.known.get(this.environment)?.type !== "package";
    for (const note of this.querySelectorAll("[data-described]")) note.hidden = !described || note.dataset.described !== type;
    this.follow(target);
  }

  /** A deployment next to others takes no traffic unless somebody says so; the first one takes all. */
  follow(target) {
    const endpoint = this.known.get(this.endpoint);
    if (target === "existing" && !endpoint?.value) return;
    const usual = target === "existing" && endpoint.traffic ? "0" : "100";
    const turned = this.usual !== undefined && this.usual !== usual;
    this.usual = usual;
    if (!turned || this.edited || this.share.value === usual) return;
    this.share.value = usual;
    this.share.dispatchEvent(new Event("change", { bubbles: true }));
  }
});
