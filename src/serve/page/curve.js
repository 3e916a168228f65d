// A curve of losses by step, with its axes.

import { drawn, element } from "./dom.js";

const HEIGHT = 208;
const MARGIN = { left: 48, right: 14, top: 14, bottom: 30 };

/** Draws the losses of a stage into a figure, whose width the curve has, so that its letters keep their size. */
export function drawCurve(figure, title, values) {
  // A view that is hidden has no width; the curve is drawn once it is shown.
  if (figure.clientWidth === 0) return;
  const { paddingLeft, paddingRight } = getComputedStyle(figure);
  const width = Math.max(figure.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight), 160);
  const [first, last] = [values[0], values.at(-1)];
  const text = values.length > 1 ? `${first.toFixed(3)} → ${last.toFixed(3)}` : first.toFixed(3);
  figure.querySelector("figcaption").replaceChildren(element("strong", { text: `Loss: ${title}` }), element("span", { class: "faint", text }));
  figure.querySelector("svg")?.remove();
  const label = `Loss of ${values.length} steps, from ${first.toFixed(3)} to ${last.toFixed(3)}`;
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label, class: "curve" });
  const { x, y, low, high } = scales(values, width);
  for (const value of [low, (low + high) / 2, high]) {
    picture.append(drawn("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: "grid" }));
    picture.append(drawn("text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)));
  }
  picture.append(drawn("text", { x: MARGIN.left, y: HEIGHT - 8 }, "step 1"));
  if (values.length > 1) picture.append(drawn("text", { x: width - MARGIN.right, y: HEIGHT - 8, "text-anchor": "end" }, `step ${values.length}`));
  const point = (value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`;
  if (values.length > 40) picture.append(drawn("polyline", { points: values.map(point).join(" "), class: "raw" }));
  picture.append(drawn("polyline", { points: smooth(values).map(point).join(" "), class: "smooth" }));
  picture.append(drawn("circle", { cx: x(values.length - 1), cy: y(smooth(values).at(-1)), r: 3.5 }));
  figure.append(picture);
}

function scales(values, width) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 0.5;
  [low, high] = [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  const [across, down] = [width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
  const x = (step) => MARGIN.left + (step / Math.max(values.length - 1, 1)) * across;
  const y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * down;
  return { x, y, low, high };
}

/** Means over the steps around each, where there are so many that single ones hide the course. */
function smooth(values) {
  const reach = values.length > 40 ? Math.round(values.length / 40) : 0;
  return values.map((_, step) => {
    const near = values.slice(Math.max(0, step - reach), step + reach + 1);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}
