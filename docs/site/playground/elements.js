// Make elements from data. A text is always a text node: nothing in it is read as HTML.

/** Return an element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Return the nodes of a message, in which `this` is code. */
export function withCode(message) {
  return message.split(/`([^`]+)`/).map((each, index) =>
    index % 2 ? element("code", { textContent: each }) : document.createTextNode(each));
}

/** Return a table with a head; cells are texts. */
export function table(head, rows) {
  const cells = (name, texts) => texts.map((text) => element(name, { textContent: text }));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...cells("th", head))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells("td", row)))));
}
