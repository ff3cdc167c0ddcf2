// Runs before the first paint: "system" means what the browser says, and follows it.
const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const follow = () => root.classList.contains("system") && root.classList.toggle("dark", dark.matches);
follow();
dark.addEventListener("change", follow);
