/** Takes a folder, files or a zip by drop or by choice, and sends them with their paths and a progress bar. */
customElements.define("upload-box", class extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.drop = this.querySelector("[data-drop]");
    this.plain = this.querySelector("[data-files]");
    this.folder = this.querySelector("[data-folder]");
    this.querySelector("[data-folder-label]").hidden = false;
    this.chosen = [];
    this.plain.addEventListener("change", () => this.choose([...this.plain.files].map((file) => [file, file.name])));
    this.folder.addEventListener("change", () => this.choose([...this.folder.files].map((file) => [file, file.webkitRelativePath])));
    this.drop.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.drop.toggleAttribute("data-over", true);
    });
    this.drop.addEventListener("dragleave", () => this.drop.toggleAttribute("data-over", false));
    this.drop.addEventListener("drop", (event) => this.dropped(event));
    this.form.addEventListener("submit", (event) => this.send(event));
  }

  async dropped(event) {
    event.preventDefault();
    this.drop.toggleAttribute("data-over", false);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    this.choose((await Promise.all(entries.map(walk))).flat());
  }

  choose(files) {
    this.chosen = files;
    const size = files.reduce((sum, [file]) => sum + file.size, 0);
    const top = files[0]?.[1].split("/")[0] ?? "";
    this.querySelector("[data-chosen]").textContent = `${top} · ${files.length} ${this.dataset.files} · ${(size / 2 ** 20).toFixed(1)} MiB`;
    const name = this.form.elements.name;
    if (!name.value) name.value = top.replace(/\.zip$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-");
  }

  send(event) {
    event.preventDefault();
    if (!this.chosen.length) return this.fail({ message: this.dataset.none });
    const data = new FormData(this.form);
    data.delete("files");
    for (const [file] of this.chosen) data.append("files", file, file.name);
    data.append("paths", JSON.stringify(this.chosen.map(([, path]) => path)));
    const request = new XMLHttpRequest();
    request.open("POST", this.form.action || location.href);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", (step) => this.progress(step.loaded / step.total));
    request.addEventListener("load", () => this.answered(request));
    request.addEventListener("error", () => this.fail({ message: this.dataset.lost }));
    this.busy(true);
    return request.send(data);
  }

  progress(part) {
    this.querySelector("[data-state] progress").value = part * 100;
    const text = part < 1 ? `${this.dataset.sending}: ${Math.floor(part * 100)} %` : `${this.dataset.checking} …`;
    this.querySelector("[data-state] p").textContent = text;
  }

  answered(request) {
    const answer = parse(request.responseText);
    if (request.status === 200 && answer?.location) location.assign(answer.location);
    else this.fail(answer ?? { message: `${this.dataset.lost} (${request.status})` });
  }

  busy(on) {
    this.querySelector("[data-state]").hidden = !on;
    this.form.querySelector("button[type=submit]").disabled = on;
    if (on) this.querySelector("[data-problem]").replaceChildren();
  }

  fail(problem) {
    this.busy(false);
    const box = Object.assign(document.createElement("div"), { className: "problem", role: "alert" });
    const text = document.createElement("div");
    for (const [line, kind] of [[problem.message, "problem-message"], [problem.evidence, "evidence"], [problem.next, "problem-next"]]) {
      if (line) text.append(Object.assign(document.createElement("p"), { className: kind, textContent: line }));
    }
    box.append(document.createElement("span"), text);
    this.querySelector("[data-problem]").replaceChildren(box);
  }
});

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function walk(entry) {
  if (entry.isFile) return [[await new Promise((done, failed) => entry.file(done, failed)), entry.fullPath.slice(1)]];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // at most 100 at a time
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(walk))).flat();
}
