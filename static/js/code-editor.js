/**
 * CodeMirror over a <textarea>, inside a shadow root because the content security policy allows its styles only there.
 * The textarea keeps the value and stays what the form sends; without this script it is simply a textarea.
 */
customElements.define("code-editor", class extends HTMLElement {
  async connectedCallback() {
    this.area = this.querySelector("textarea");
    if (!this.area || this.host) return;
    const kit = await import(this.dataset.module);
    if (!this.isConnected || this.host) return;
    this.host = document.createElement("div");
    this.host.className = "editor-host";
    this.area.before(this.host);
    const root = this.host.attachShadow({ mode: "open" });
    this.editor = new kit.EditorView({ doc: this.area.value, extensions: this.extensions(kit), root, parent: root });
    this.area.hidden = true;
    this.area.required = false; // the browser cannot point at a hidden field; the server says what is missing
    this.area.addEventListener("input", () => this.take());
    this.area.form?.addEventListener("draft", () => this.take());
    this.area.form?.addEventListener("reset", () => setTimeout(() => this.take()));
    document.querySelector(`label[for="${this.area.id}"]`)?.addEventListener("click", () => this.editor.focus());
  }

  focus() {
    if (this.editor) this.editor.focus();
    else this.area.focus();
  }

  /** What the server said about the field. */
  told() {
    this.editor?.dispatch({}); // reads the attributes again
  }

  extensions(kit) {
    const language = { json: kit.json, python: kit.python, yaml: kit.yaml }[this.dataset.language];
    const label = document.querySelector(`label[for="${this.area.id}"]`)?.textContent.trim() ?? "";
    const { required } = this.area;
    const found = [
      kit.basicSetup,
      kit.EditorView.lineWrapping,
      kit.EditorView.contentAttributes.of(() => ({ tabindex: "0", "aria-label": label, "aria-required": String(required), "aria-invalid": this.area.getAttribute("aria-invalid") ?? "false" })),
      kit.EditorView.updateListener.of((update) => update.docChanged && this.changed(update.state.doc.toString())),
      kit.EditorView.theme(LOOK),
      kit.syntaxHighlighting(kit.HighlightStyle.define(colours(kit.tags))),
      kit.EditorState.readOnly.of(this.area.readOnly),
    ];
    if (language) found.push(language());
    if (this.dataset.language === "json") found.push(kit.lintGutter(), kit.linter((view) => this.lint(kit, view)));
    return found;
  }

  /** What the form holds follows what is typed. */
  changed(text) {
    if (text === this.area.value) return;
    this.area.value = text;
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** What something else put into the textarea is shown. */
  take() {
    const { value } = this.area;
    const now = this.editor.state.doc.toString();
    if (now !== value) this.editor.dispatch({ changes: { from: 0, to: now.length, insert: value } });
  }

  lint(kit, view) {
    const text = view.state.doc.toString().trim();
    const found = text ? kit.jsonParseLinter()(view) : [];
    const note = this.querySelector("[data-lint]");
    if (note) {
      const line = found.length ? view.state.doc.lineAt(found[0].from).number : 0;
      note.textContent = found.length ? `${note.dataset.line} ${line}: ${found[0].message}` : text ? note.dataset.fine : "";
      note.toggleAttribute("data-bad", found.length > 0);
    }
    return found;
  }
});

const LOOK = {
  "&": { backgroundColor: "var(--background)", color: "var(--foreground)", fontSize: "13px", height: "100%" },
  ".cm-content": { fontFamily: "var(--mono)", caretColor: "var(--foreground)", padding: "8px 0" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "20px", minHeight: "12rem", maxHeight: "28rem" },
  ".cm-gutters": { backgroundColor: "var(--sunken)", color: "var(--muted-foreground)", border: "0" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in oklab, var(--foreground) 4%, transparent)" },
  "&.cm-focused": { outline: "2px solid var(--ring)", outlineOffset: "-1px" },
  ".cm-cursor": { borderLeftColor: "var(--foreground)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { background: "color-mix(in oklab, var(--primary) 25%, transparent) !important" },
  ".cm-tooltip": { backgroundColor: "var(--popover)", color: "var(--foreground)", border: "1px solid var(--line-strong)", borderRadius: "6px" },
  ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--foreground)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--sunken)", borderColor: "var(--line)", color: "var(--muted-foreground)" },
};

function colours(tags) {
  return [
    { tag: tags.propertyName, color: "var(--code-name)" },
    { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
    { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--code-value)" },
    { tag: [tags.keyword, tags.operatorKeyword], color: "var(--code-keyword)" },
    { tag: tags.comment, color: "var(--muted-foreground)" },
  ];
}
