/** Three radios: system, light, dark. The cookie lets the server draw the next page right from the start. */
customElements.define("theme-switch", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", (event) => {
      const theme = event.target.value;
      const year = 60 * 60 * 24 * 365;
      document.cookie = `theme=${theme}; path=/; max-age=${year}; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
      const system = matchMedia("(prefers-color-scheme: dark)").matches;
      const root = document.documentElement;
      root.classList.remove("system", "light", "dark");
      root.classList.add(theme);
      if (theme === "system") root.classList.toggle("dark", system);
    });
  }
});
