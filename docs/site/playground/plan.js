// Show a plan: the curve of the average rank, the phases, the costs on a few models.

import { element, table } from "./elements.js";

const HEIGHT = 220;
const MARGIN = { top: 26, right: 12, bottom: 34, left: 36 };
const SVG = "http://www.w3.org/2000/svg";

/** Show the plan of an answer in `place`, or why there is none. */
export function showPlan(place, { plan, no_plan: reason }) {
  if (!plan) {
    place.replaceChildren(element("p", { textContent: reason }));
    return;
  }
  const figure = element("figure", { className: "pg-curve" });
  const rows = plan.phases.map((phase) => [
    phase.name,
    phase.steps ? `${phase.first} to ${phase.last}` : "none",
    phase.what,
  ]);
  const scale = `Scale: lora_alpha / init_r = ${Number(plan.scale.toPrecision(4))}, also after pruning.`;
  place.replaceChildren(
    figure,
    scrolled(table(["Phase", "Steps", "What happens"], rows)),
    element("p", { textContent: scale }),
  );
  new ResizeObserver(() => {
    // Without a width the figure is not on the page any more.
    if (figure.clientWidth) figure.replaceChildren(curve(plan, figure.clientWidth));
  }).observe(figure);
}

/** Show the costs of an answer in `place`; where there is no plan, nothing. */
export function showModels(place, { models }) {
  place.parentElement.hidden = !models;
  if (!models) return;
  const count = (number) => number.toLocaleString("en");
  const rows = models.map((model) => model.problem
    ? [model.name, model.problem, "", "", ""]
    : [
      model.name,
      `${model.matrices} matrices`,
      `${count(model.start)} (${(100 * model.start / model.parameters).toFixed(2)} %)`,
      count(model.end),
      `${(model.adapter_bytes / 1e6).toPrecision(3)} MB`,
    ]);
  const made = table(["Model", "Matched", "Trainable at the start", "Left at the end", "Adapter"], rows);
  for (const row of made.tBodies[0].rows) {
    if (row.cells[2].textContent) continue;
    row.cells[1].colSpan = 4;
    while (row.cells.length > 2) row.deleteCell(2);
  }
  place.replaceChildren(scrolled(made));
}

function scrolled(made) {
  // A region that scrolls must be reachable by keyboard.
  return element("div", { className: "pg-scrolled", tabIndex: 0 }, made);
}

function curve(plan, width) {
  const steps = plan.curve.at(-1)[0];
  const { start: top, end } = plan.average_rank;
  const x = (step) => MARGIN.left + (step / Math.max(1, steps)) * (width - MARGIN.left - MARGIN.right);
  const y = (rank) => HEIGHT - MARGIN.bottom - (rank / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const label = `The average rank falls from ${top} to ${end.toFixed(2)} in ${steps + 1} steps.`;
  const made = svg("svg", { width, height: HEIGHT, role: "img", "aria-label": label });
  for (const [index, phase] of plan.phases.entries()) {
    if (!phase.steps) continue;
    const [left, right] = [x(phase.first), x(Math.min(steps, phase.last + 1))];
    made.append(svg("rect", {
      x: left, y: MARGIN.top, width: right - left, height: y(0) - MARGIN.top,
      class: `pg-phase pg-phase-${index}`,
    }));
    if (right - left > 60) {
      made.append(text(phase.name, (left + right) / 2, MARGIN.top - 8, "middle"));
    }
  }
  for (const rank of new Set([0, Number(end.toFixed(2)), top])) {
    made.append(
      svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(rank), y2: y(rank), class: "pg-grid" }),
      text(String(rank), MARGIN.left - 6, y(rank) + 4, "end"),
    );
  }
  const points = plan.curve.map(([step, rank]) => `${x(step).toFixed(1)},${y(rank).toFixed(1)}`);
  made.append(
    svg("polyline", { points: points.join(" "), class: "pg-line" }),
    text("0", x(0), HEIGHT - 18, "middle"),
    text(String(steps), x(steps), HEIGHT - 18, "end"),
    text("average rank after each optimizer step", (x(0) + x(steps)) / 2, HEIGHT - 4, "middle"),
  );
  return made;
}

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function text(content, x, y, anchor) {
  const made = svg("text", { x, y, "text-anchor": anchor });
  made.textContent = content;
  return made;
}
