/** What a chart is made of besides its lines: colours, clocks, and the marks of changes. */
const language = document.documentElement.lang || "en";

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const clock = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const days = new Intl.DateTimeFormat(language, { month: "short", day: "numeric" });

export const powers = () => Array.from({ length: 40 }, (_, power) => 2 ** power);

export function times(chart, marks) {
  const form = chart.scales.x.max - chart.scales.x.min > 100_000 ? days : minutes;
  return marks.map((mark) => form.format(mark * 1000));
}

/** A thin line at every change; it only says where. */
export function rule(chart, markers) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = css("muted-foreground");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const marker of markers) {
    const x = Math.round(chart.valToPos(marker.time, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** What changed there, on hover and on focus. */
export function flags(chart, markers) {
  const { over } = chart;
  const { min, max } = chart.scales.x;
  const shown = markers.filter((marker) => marker.time >= min && marker.time <= max);
  const old = [...over.querySelectorAll(".marker")];
  shown.forEach((marker, index) => {
    const flag = old[index] ?? over.appendChild(Object.assign(document.createElement("span"), { className: "marker", tabIndex: 0 }));
    const x = chart.valToPos(marker.time, "x");
    flag.dataset.text = `${clock.format(marker.time * 1000)} · ${marker.text}`;
    flag.dataset.side = x > over.clientWidth * 0.7 ? "left" : x < over.clientWidth * 0.3 ? "right" : "";
    flag.setAttribute("role", "img");
    flag.setAttribute("aria-label", flag.dataset.text);
    flag.style.left = `${x}px`;
  });
  old.slice(shown.length).forEach((flag) => flag.remove());
}
