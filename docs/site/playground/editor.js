// A text area with line numbers, colours and underlined findings.

import { coloured } from "./colours.js";
import { element } from "./elements.js";

const MOST_COLOURED = 30_000; // characters; each key lays a coloured text out twice
const MOST_UNDONE = 200; // lines; the time for a browser's command grows with their square
const SEVERITIES = ["error", "warning", "info"];

export class Editor {
  constructor(root) {
    this.root = root;
    this.area = root.querySelector("textarea");
    this.marks = root.querySelector(".pg-marks");
    this.lines = root.querySelector(".pg-lines");
    this.lineCount = 0;
    this.format = ""; // what the colours are for
    this.isReplacing = false; // then an input event is not the reader's
    this.area.addEventListener("scroll", () => this.#followScroll());
  }

  get text() {
    return this.area.value;
  }

  /** Replace the text so that the browser's undo brings the old one back, unless it would take long. */
  replace(text) {
    const old = this.text;
    if (old === text) return;
    let start = 0;
    while (start < Math.min(old.length, text.length) && old[start] === text[start]) start++;
    let same = 0;
    const most = Math.min(old.length, text.length) - start;
    while (same < most && old[old.length - 1 - same] === text[text.length - 1 - same]) same++;
    const before = document.activeElement;
    this.area.focus({ preventScroll: true });
    this.area.setSelectionRange(start, old.length - same);
    const added = text.slice(start, text.length - same);
    this.isReplacing = true;
    if (added.split("\n").length <= MOST_UNDONE) {
      document.execCommand(added ? "insertText" : "delete", false, added);
    }
    // A browser may refuse the command, which also keeps the text.
    if (this.text !== text) this.area.value = text;
    this.isReplacing = false;
    if (before !== this.area) this.area.blur();
    if (before !== this.area && before !== document.body) before?.focus({ preventScroll: true });
  }

  /** Select a place and scroll it into view. */
  select({ start, end }) {
    this.area.focus();
    this.area.setSelectionRange(start.offset, Math.max(end.offset, start.offset));
    const height = this.area.scrollHeight / Math.max(1, this.lineCount);
    this.area.scrollTop = (start.line - 1) * height - this.area.clientHeight / 2;
    this.area.scrollIntoView({ block: "nearest" });
  }

  /** Colour the text, underline the findings, and show the numbers of the lines. */
  mark(findings) {
    const spans = findings.filter((each) => each.span).map((each) => this.#shown(each));
    const isColoured = this.text.length <= MOST_COLOURED;
    const colours = isColoured ? coloured(this.text, this.format) : [];
    this.root.classList.toggle("pg-coloured", isColoured);
    const edges = new Set([0, this.text.length]);
    for (const { start, end } of spans) edges.add(start).add(end);
    const places = [...edges].sort((one, other) => one - other);
    const parts = places.slice(1).flatMap((end, index) => {
      const start = places[index];
      const covering = spans.filter((span) => span.start <= start && span.end >= end);
      return part(this.#pieces(colours, start, end), worst(covering));
    });
    // Without a colour and a finding nothing is under the text: each key would lay it out twice.
    this.marks.replaceChildren(...(isColoured || spans.length ? [...parts, "\n"] : []));
    this.#number(spans);
    this.#followScroll();
  }

  /** Return a part of the text in pieces of one colour; takes those colours that end in it. */
  #pieces(colours, start, end) {
    const pieces = [];
    let place = start;
    while (colours.length && colours[0].start < end) {
      const { start: first, end: last, kind } = colours[0];
      const from = Math.max(first, start);
      const to = Math.min(last, end);
      pieces.push(this.text.slice(place, from),
        element("span", { className: `pg-${kind}`, textContent: this.text.slice(from, to) }));
      place = to;
      if (last > end) break;
      colours.shift();
    }
    return [...pieces, this.text.slice(place, end)];
  }

  /** Return where a finding is underlined: on its first line, at least one character. */
  #shown({ span, severity }) {
    const start = span.start.offset;
    const newline = this.text.indexOf("\n", start);
    const lineEnd = newline < 0 ? this.text.length : newline;
    const end = Math.min(Math.max(span.end.offset, start + 1), Math.max(lineEnd, start + 1));
    return { start, end: Math.min(end, this.text.length), severity, line: span.start.line };
  }

  /** Show the numbers of the lines; those without a finding share text nodes, as there are many. */
  #number(spans) {
    const count = this.text.split("\n").length;
    if (!spans.length && !this.lines.childElementCount && count === this.lineCount) return;
    this.lineCount = count;
    this.root.style.setProperty("--pg-rows", count);
    const marked = new Map();
    for (const span of spans) marked.set(span.line, [...(marked.get(span.line) ?? []), span]);
    const parts = [];
    let plain = "";
    for (let line = 1; line <= this.lineCount; line++) {
      const here = marked.get(line);
      if (here) {
        parts.push(plain, ...part([`${line}\n`], worst(here)));
        plain = "";
      } else {
        plain += `${line}\n`;
      }
    }
    this.lines.replaceChildren(...parts, plain);
  }

  #followScroll() {
    this.marks.style.transform =
      `translate(${-this.area.scrollLeft}px, ${-this.area.scrollTop}px)`;
    this.lines.scrollTop = this.area.scrollTop;
  }
}

function worst(spans) {
  return SEVERITIES.find((severity) => spans.some((span) => span.severity === severity));
}

function part(pieces, severity) {
  return severity ? [element("mark", { className: `pg-${severity}` }, ...pieces)] : pieces;
}
