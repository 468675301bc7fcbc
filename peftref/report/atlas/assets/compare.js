// Two techniques side by side.
"use strict";
(() => {
  const form = document.getElementById("choice");
  const said = document.getElementById("said");
  const sides = document.getElementById("sides");
  const known = Object.keys(peftref.names.titles);
  const titles = { slots: "Slots", equations: "Sub-expressions that differ", leaves: "Tensors", settings: "Settings" };

  const make = (tag, more = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), more);
    element.append(...children);
    return element;
  };
  const wide = (label, inner) => {
    const box = make("div", { className: "wide", tabIndex: 0 }, inner);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", label);
    return box;
  };
  // Markup that the atlas itself has written: equations and drawings.
  const written = (className, markup) => make("div", { className, innerHTML: markup });

  const table = (label, head, rows) => {
    const found = make("table", { className: "pair" });
    found.createTHead().insertRow().append(...head.map((text) => make("th", { scope: "col" }, text)));
    const body = found.createTBody();
    for (const { cells, differs } of rows) {
      const [first, ...rest] = cells;
      const line = make("tr", { className: differs ? "differs" : "" }, make("th", { scope: "row" }, first));
      line.append(...rest.map((cell) => make("td", {}, cell)));
      body.append(line);
    }
    return wide(label, found);
  };

  const code = (text) => (text ? make("code", {}, text) : make("span", { className: "lacks" }, "none"));

  const side = (found) => {
    const link = make("a", { href: `techniques/${found.name}.html` }, found.title);
    return make("section", { className: "side" }, make("h2", {}, link), make("p", { className: "about" }, found.about),
      written("equations", found.equation), written("block", found.diagram), written("leaves", found.leaves));
  };

  const draw = (one, other) => {
    const found = peftref.diff(one, other);
    const differing = new Set(found.properties.map((each) => each.what));
    const properties = Object.keys(one.cells).map((name) => ({
      differs: differing.has(name),
      cells: [peftref.names.labels[name] ?? name, ...[one, other].map((each) => {
        const cell = each.cells[name];
        return make("span", { title: cell.reason }, cell.value);
      }), differing.has(name) ? "differs" : "equal"],
    }));
    const parts = [make("div", { className: "sides" }, side(one), side(other)), make("h2", {}, "Properties"),
      table("properties", ["property", one.title, other.title, ""], properties)];
    for (const [kind, title] of Object.entries(titles)) {
      const rows = found[kind].map((each) => ({ differs: true, cells: [make("code", {}, each.what), code(each.one), code(each.other)] }));
      if (rows.length) parts.push(make("h2", {}, title), table(title, ["", one.title, other.title], rows));
    }
    sides.replaceChildren(...parts);
    const total = Object.values(found).reduce((sum, each) => sum + each.length, 0);
    said.textContent = total
      ? `${one.title} and ${other.title} differ in ${found.properties.length} of ${properties.length} properties.`
      : `${one.title} and ${other.title} do not differ.`;
  };

  let asked = 0;
  const show = async () => {
    const [a, b] = [form.elements.a.value, form.elements.b.value];
    const mine = ++asked;
    peftref.writeHash({ a, b });
    try {
      const [one, other] = await Promise.all([peftref.load(a), peftref.load(b)]);
      if (mine === asked) draw(one, other);
    } catch (error) {
      said.textContent = `${error.message}.`;
    }
  };

  const choose = () => {
    const hash = peftref.readHash();
    form.elements.a.value = known.includes(hash.get("a")) ? hash.get("a") : known[0];
    form.elements.b.value = known.includes(hash.get("b")) ? hash.get("b") : known[Math.min(1, known.length - 1)];
    show();
  };

  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("swap").addEventListener("click", () => {
    const { a, b } = form.elements;
    [a.value, b.value] = [b.value, a.value];
    show();
  });
  window.addEventListener("hashchange", choose);
  choose();
})();
