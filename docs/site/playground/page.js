// The playground: a text in, findings, fixes and a plan out. The checking is done by worker.js.

import { Editor } from "./editor.js";
import { element, withCode } from "./elements.js";
import { fromFragment, toFragment } from "./link.js";
import { showModels, showPlan } from "./plan.js";

const PAUSE = 150; // milliseconds without a key before a check
const LONG = 600; // milliseconds until a check can be stopped
const NONE = {
  "": "This is not a configuration, a script or the message of an error. If it is one, choose its format.",
  error: "No rule is about this error, which may not be of LoRA or AdaLoRA.",
};
const LONGEST_LINK = 30_000;
const GRAVITY = ["error", "warning", "info"];
const NAMES = { error: "error", warning: "warning", info: "remark" };
const WIDE = matchMedia("(min-width: 60em)"); // as in page.css
const FORMATS = { json: "JSON", yaml: "YAML", toml: "TOML", python: "Python", notebook: "notebook", error: "the message of an error" };
const FORMAT_OF = { json: "json", py: "python", toml: "toml", yaml: "yaml" }; // by the ending of an example

const $ = (name) => document.getElementById(`pg-${name}`);
const editor = new Editor($("editor"));
let worker = null;
let isReady = false;
let isBusy = false;
let isStopped = false; // then the text is checked again when it changes
let waiting = null; // the check to ask for when the worker is free
let shown = []; // the findings, in the order of their entries
let notice = "";
let beforeFixes = null; // the text that Undo restores
let timer;
let longTimer;

function start() {
  worker?.terminate();
  showStop(false);
  isReady = isBusy = false;
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => receive(data);
  worker.onerror = (event) => fail(event.message ?? "the worker did not start");
  $("loading").classList.remove("pg-failed");
  $("loading").hidden = false;
  $("progress").hidden = false;
  $("progress").value = 0;
  $("retry").hidden = true;
  $("loading-text").textContent = "Loading Python, once for this page";
}

function fail(reason) {
  worker.terminate();
  $("loading").classList.add("pg-failed");
  $("progress").hidden = true;
  $("retry").hidden = false;
  $("loading-text").textContent = `Python could not be loaded: ${reason}`;
  say("Python could not be loaded.");
}

function receive(data) {
  if ("progress" in data) {
    $("progress").value = data.progress;
    if (data.progress >= 1) {
      $("progress").removeAttribute("value");
      $("loading-text").textContent = "Starting Python";
    }
  } else if ("failed" in data) {
    fail(data.failed);
  } else if (data.ready) {
    isReady = true;
    $("loading").hidden = true;
    if (!isStopped) check();
  } else {
    isBusy = false;
    showStop(false);
    if ("problem" in data) showProblem(data.problem);
    else if (isCurrent(data.asked)) show(data.answer, data.asked);
    // A number means a finding of the answer before.
    if (waiting) check(typeof waiting.fix === "string" ? waiting.fix : undefined);
  }
}

function say(message) {
  if ($("status").textContent !== message) $("status").textContent = message;
}

/** Ask for a check of what the page holds now; with `fix` also for fixes. */
function check(fix) {
  setBusy(true);
  isStopped = false;
  waiting = isReady && !isBusy ? null : { fix };
  if (waiting) return;
  isBusy = true;
  longTimer = setTimeout(showStop, LONG, true);
  worker.postMessage({ ...state(), ...(fix === undefined ? {} : { fix }) });
}

/** Offer to end a check that takes long. */
function showStop(isLong) {
  clearTimeout(longTimer);
  if (isLong) say("Checking a long text.");
  else if (document.activeElement === $("stop")) $("status").focus();
  $("stop").hidden = !isLong;
}

/** End the check: Python starts anew, from what the browser keeps. */
function stop() {
  isStopped = true;
  clearTimeout(timer); // of a change just before
  waiting = null;
  shown = [];
  $("findings").replaceChildren(); // they are those of another text
  start();
  say("Stopped. The text is checked when you change it.");
  setBusy(false);
}

function isCurrent(asked) {
  return Object.entries(state()).every(([key, value]) => asked[key] === value);
}

/** Say whether the findings belong to what the page holds now. */
function setBusy(busy) {
  $("findings").setAttribute("aria-busy", busy);
}

function state() {
  return { text: editor.text, format: $("format").value, runtime: $("runtime").value };
}

function show(answer, asked) {
  editor.replace(answer.text);
  editor.format = answer.format;
  editor.mark(answer.findings);
  const fixable = answer.findings.filter((each) => each.fix && !each.fix.obstacle);
  $("fix-safe").disabled = !fixable.some((each) => each.fix.safe);
  $("fix-all").disabled = !fixable.length;
  shown = answer.findings.map((each, index) => ({ ...each, index }))
    .sort((one, other) => GRAVITY.indexOf(one.severity) - GRAVITY.indexOf(other.severity));
  const items = shown.map(item);
  const none = element("li", { className: "pg-none" }, NONE[answer.format] ?? "No findings.");
  $("findings").replaceChildren(...(items.length ? items : [none]));
  showHere();
  showPlan($("plan"), answer);
  showModels($("models"), answer);
  const count = answer.fixed.length;
  const done = "fix" in asked ? `Applied ${count} ${plural("fix", count, "es")}. ` : "";
  if (!answer.text.trim()) {
    say(`${notice}Type or paste a configuration, a script or a traceback.`);
    $("findings").replaceChildren();
    setBusy(false);
    return;
  }
  if (!answer.format) {
    say(`${notice}This text was not read.`);
    setBusy(false);
    return;
  }
  say(`${notice}${done}${summary(answer.findings)} (read as ${FORMATS[answer.format]}).`);
  setBusy(false);
  if (count) {
    showApplied(answer.fixed, asked.text);
    renewAddress();
  }
  // The button that was pressed may be gone.
  if ("fix" in asked && !document.activeElement?.matches("button, textarea")) $("status").focus();
}

/** List the applied fixes: one fix may have made the next possible, which no finding announced. */
function showApplied(fixed, before) {
  beforeFixes = before;
  $("example").value = "";
  $("applied-list").replaceChildren(...fixed.flatMap(({ code, pointer, description }, index) =>
    [index ? "; " : "", `${code} `, ...field(pointer), ": ", ...withCode(description)]));
  $("applied").hidden = false;
}

function undo() {
  editor.replace(beforeFixes);
  changed();
  $("status").focus();
}

function showProblem(problem) {
  say(`This text could not be checked: ${problem}`);
  setBusy(false);
}

function summary(findings) {
  const parts = Object.entries(NAMES).flatMap(([severity, name]) => {
    const count = findings.filter((each) => each.severity === severity).length;
    return count ? [`${count} ${plural(name, count)}`] : [];
  });
  return parts.join(", ") || "Nothing to report";
}

function plural(word, count, ending = "s") {
  return count === 1 ? word : word + ending;
}

function item(finding) {
  const { index, code, name, severity, message, pointer, span, hint, related, fix } = finding;
  const made = element("li", { className: `pg-finding pg-${severity}` },
    element("p", { className: "pg-head" },
      element("strong", { textContent: NAMES[severity] }), " ",
      element("a", { href: `../rules/${code}/`, textContent: `${code} ${name}` }), " ",
      ...(span ? [place(span), " "] : []), ...field(pointer)),
    element("p", {}, ...withCode(message)));
  for (const other of related) {
    made.append(element("p", { className: "pg-related" }, ...(other.span ? [place(other.span), " "] : []), ...withCode(other.message)));
  }
  if (hint && !(fix && !fix.obstacle && sameWords(hint, fix.description))) made.append(element("p", {}, "Hint: ", ...withCode(hint)));
  if (fix?.obstacle) {
    made.append(element("p", {}, `A fix cannot be applied: `, ...withCode(fix.obstacle)));
  } else if (fix) {
    const button = element("button", { type: "button", className: "pg-button pg-fix" },
      fix.safe ? "Fix: " : "Fix, changes the meaning: ", ...withCode(fix.description));
    button.addEventListener("click", () => check(index));
    made.append(button);
  }
  return made;
}

/** Return the name of the field that a pointer leads to, as code; of a list's entry, the list's. */
function field(pointer) {
  const parts = pointer.split("/").slice(1).filter((each) => !/^\d+$/.test(each));
  if (!parts.length) return [];
  const name = parts.at(-1).replaceAll("~1", "/").replaceAll("~0", "~");
  return [element("code", { textContent: name })];
}

function sameWords(one, other) {
  const [words, others] = [one, other].map((text) => text.toLowerCase().match(/\w+/g).join(" "));
  return words === others;
}

function place(span) {
  const label = `line ${span.start.line}, column ${span.start.column}`;
  const button = element("button", { type: "button", className: "pg-place", textContent: label });
  button.addEventListener("click", () => editor.select(span));
  return button;
}

/** Mark the findings at the caret while the reader is in the text. */
function showHere() {
  const { selectionStart: caret, selectionEnd: end } = editor.area;
  const isIn = document.activeElement === editor.area;
  const isHere = ({ span }) => isIn && span && span.start.offset <= end && caret <= span.end.offset;
  shown.forEach((each, index) => $("findings").children[index].classList.toggle("pg-here", Boolean(isHere(each))));
}

/** The text or a setting has changed: check soon, and keep the address up to date. */
function changed({ typed = true } = {}) {
  if (typed) {
    $("example").value = "";
    editor.mark([]);
  }
  notice = "";
  $("applied").hidden = true;
  setBusy(true);
  clearTimeout(timer);
  timer = setTimeout(() => {
    check();
    renewAddress();
  }, PAUSE);
}

/** Put the text into the address; return whether it fits. */
async function renewAddress() {
  const fragment = await toFragment(state());
  const fits = fragment.length <= LONGEST_LINK;
  history.replaceState(null, "", fits ? fragment : location.pathname);
  return fits;
}

/** Show another text than before, with its settings. */
function open({ text, format = "", runtime, example = "" }) {
  $("format").value = format in FORMATS ? format : "";
  if (runtime) $("runtime").value = runtime === "adalora-core" ? runtime : "peft";
  editor.replace(text);
  $("example").value = example;
  editor.format = format || FORMAT_OF[example.split(".").at(-1)];
  editor.mark([]);
  $("applied").hidden = true;
  check();
}

async function showExample(example) {
  const response = await fetch(new URL(`examples/${example}`, import.meta.url));
  if (response.ok) open({ text: await response.text(), example });
  else say(`The example could not be loaded: ${response.status}`);
}

async function followLink() {
  try {
    const found = await fromFragment(location.hash);
    if (found) open(found);
    return found !== null;
  } catch (error) {
    open({ text: "" });
    notice = `The link is damaged or cut, and its text is lost: ${error.message}. `;
    say(notice);
    return true;
  }
}

/** On a phone the plan is folded until the reader opens it. */
function fold() {
  for (const each of document.querySelectorAll(".pg-fold")) each.open = WIDE.matches;
}

async function copyLink() {
  if (!(await renewAddress())) return say("The text is too long for a link.");
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied. It contains the text.");
  } catch {
    say("Copy the link from the address bar. It contains the text.");
  }
}

// A text that is pasted into an untouched example replaces it.
editor.area.addEventListener("paste", ({ target }) => {
  if ($("example").value && target.selectionStart === target.selectionEnd) target.select();
});
for (const kind of ["keyup", "click", "focus", "blur"]) editor.area.addEventListener(kind, showHere);
editor.area.addEventListener("input", () => editor.isReplacing || changed());
$("format").addEventListener("change", () => changed({ typed: false }));
$("runtime").addEventListener("change", () => changed({ typed: false }));
$("example").addEventListener("change", ({ target }) => target.value && showExample(target.value));
$("fix-safe").addEventListener("click", () => check("safe"));
$("fix-all").addEventListener("click", () => check("all"));
$("undo").addEventListener("click", undo);
$("link").addEventListener("click", copyLink);
$("retry").addEventListener("click", start);
$("stop").addEventListener("click", stop);
WIDE.addEventListener("change", fold);
addEventListener("hashchange", followLink);

start();
fold();
if (!(await followLink()) && !editor.text) {
  await showExample($("example").options[1].value);
}
