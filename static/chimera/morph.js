// Makes a piece of the page equal to new markup while its elements live on, so that focus,
// scroll positions, selections and what people unfolded stay as they are.

export function morph(from, to) {
  if (!isSame(from, to)) {
    from.replaceWith(to);
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.hasAttribute("data-keep")) return; // a script owns it
  copyAttributes(from, to);
  morphChildren(from, to);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id || node.getAttribute("data-key") : null;
}

function isSame(one, other) {
  return one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

function copyAttributes(from, to) {
  // A fold stays as its reader left it until what it tells of changes.
  const isFold = from.nodeName === "DETAILS" && from.dataset.state === to.dataset.state;
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(isFold && name === "open")) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (isFold && name === "open") continue;
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
}

function morphChildren(from, to) {
  const keyed = new Map();
  for (const child of from.children) {
    if (keyOf(child)) keyed.set(keyOf(child), child);
  }
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    const key = keyOf(next);
    const found = key ? keyed.get(key) : at && isSame(at, next) ? at : null;
    if (!found) {
      from.insertBefore(next, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    morph(found, next);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
