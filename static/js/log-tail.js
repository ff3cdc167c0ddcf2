/** Keeps the end of a log in view; stops when the reader scrolls up, and offers the way back. */
customElements.define("log-tail", class extends HTMLElement {
  connectedCallback() {
    this.pre = this.querySelector("pre");
    this.button = this.querySelector("[data-follow]");
    this.following = true;
    this.addEventListener("scroll", () => this.scrolled(), true);
    this.button.addEventListener("click", () => {
      this.following = true;
      this.follow();
    });
    this.watch = new MutationObserver(() => this.follow());
    this.watch.observe(this, { childList: true, characterData: true, subtree: true });
    this.follow();
  }
  disconnectedCallback() {
    this.watch.disconnect();
  }
  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.querySelector("pre");
    this.following = scrollTop + clientHeight >= scrollHeight - 24;
    this.button.hidden = this.following;
  }
  follow() {
    const pre = this.querySelector("pre"); // a morph may have replaced it
    if (this.following) pre.scrollTop = pre.scrollHeight;
    this.button.hidden = this.following;
  }
});
