// In what two techniques differ, as `peftref diff` says it.
"use strict";
window.peftref = window.peftref || {};
(() => {
  const fixed = new Set(["h", "x", "W", "b", "g", "q", "k", "v", "o", "E", "res", "out"]);
  const shown = (node) => node.n ?? node.s ?? `"${node.t}"`;

  const walk = function* (node) {
    yield node;
    for (const child of [...(node.a ?? []), ...(node.k ?? []).map(([, value]) => value)]) yield* walk(child);
  };

  // Names by the order of their first use, so that what leaves are called makes no difference.
  const order = (node) => {
    const found = new Map();
    for (const { n } of walk(node)) if (n !== undefined && !fixed.has(n) && !found.has(n)) found.set(n, `leaf${found.size}`);
    return found;
  };

  const renamed = (node, names) => {
    if (node.n !== undefined) return ["n", names.get(node.n) ?? node.n];
    if (node.o === undefined) return node.v !== undefined ? ["v", node.v] : ["t", node.t];
    const options = (node.k ?? []).map(([key, value]) => [key, renamed(value, names)]);
    return ["o", node.o, node.a.map((arg) => renamed(arg, names)), options];
  };

  const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  const none = new Map();

  // The smallest sub-expressions that differ.
  const smallest = (one, other, left, right) => {
    if (equal(renamed(one, left), renamed(other, right))) return [];
    const options = (node) => (node.k ?? []).map(([key, value]) => [key, renamed(value, none)]);
    const alike = one.o !== undefined && one.o === other.o && one.a.length === other.a.length && equal(options(one), options(other));
    const found = alike ? one.a.flatMap((mine, i) => smallest(mine, other.a[i], left, right)) : [];
    return found.length ? found : [[one, other]];
  };

  const entries = (one, other) =>
    [...new Set([...Object.keys(one), ...Object.keys(other)])]
      .filter((key) => one[key] !== other[key])
      .map((key) => ({ what: key, one: one[key] ?? "", other: other[key] ?? "" }));

  const slot = (key) => (key.endsWith(".h'") ? key.slice(0, -3) : key);

  const equations = (one, other) => {
    const common = Object.keys(one).filter((key) => Object.hasOwn(other, key));
    if (common.length) {
      return common.flatMap((key) =>
        smallest(one[key], other[key], order(one[key]), order(other[key])).map(([mine, theirs]) =>
          ({ what: slot(key), one: shown(mine), other: shown(theirs) })));
    }
    const [first, second] = [Object.entries(one)[0], Object.entries(other)[0]];
    return first && second ? [{ what: slot(first[0]), one: shown(first[1]), other: shown(second[1]) }] : [];
  };

  const values = (cells) => Object.fromEntries(Object.entries(cells).map(([name, cell]) => [name, cell.value]));

  peftref.diff = (one, other) => ({
    properties: entries(values(one.cells), values(other.cells)),
    slots: entries(one.diff.slots, other.diff.slots),
    equations: equations(one.diff.effects, other.diff.effects),
    leaves: entries(one.diff.leaves, other.diff.leaves),
    settings: entries(one.diff.settings, other.diff.settings),
  });
})();
