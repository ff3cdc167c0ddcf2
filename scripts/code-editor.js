// What static/vendor/codemirror/codemirror.js offers; bundled by scripts/vendor.
export { basicSetup, EditorView } from "codemirror";
export { json, jsonParseLinter } from "@codemirror/lang-json";
export { python } from "@codemirror/lang-python";
export { yaml } from "@codemirror/lang-yaml";
export { linter, lintGutter } from "@codemirror/lint";
export { Compartment, EditorState } from "@codemirror/state";
export { keymap } from "@codemirror/view";
export { indentWithTab } from "@codemirror/commands";
export { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
export { tags } from "@lezer/highlight";
