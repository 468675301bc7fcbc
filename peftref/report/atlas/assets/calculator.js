// The calculator of a technique's page.
"use strict";
(() => {
  const form = document.getElementById("calculator");
  const technique = peftref.techniques.get(form.dataset.technique);
  const group = (number) => number.toLocaleString("en-US");
  const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

  const settings = () =>
    Object.fromEntries([...form.querySelectorAll("input")].map((input) => [input.name.slice(4), input.valueAsNumber]));

  const share = (part, whole) => {
    const percent = (Number(part) / Number(whole)) * 100;
    return `${percent >= 0.01 || percent === 0 ? percent.toFixed(percent >= 10 ? 1 : 3) : percent.toPrecision(2)} %`;
  };

  const breakdown = (rows) => {
    const box = document.getElementById("parts");
    box.replaceChildren();
    if (!rows.length) return;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const text of ["tensor", "at", "shape", "copies", "numbers", "trained"]) {
      head.append(Object.assign(cell("th", text), { scope: "col" }));
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      line.append(Object.assign(cell("th", row.name), { scope: "row" }), cell("td", row.where));
      line.append(cell("td", row.shape.join(" × ") || "1"), cell("td", group(row.copies)), cell("td", group(row.numel)));
      line.append(cell("td", row.trained ? "yes" : "frozen"));
    }
    const wide = Object.assign(document.createElement("div"), { className: "wide", tabIndex: 0 });
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", "tensors on this host");
    wide.append(table);
    box.append(wide);
  };

  const tell = () => {
    const output = document.getElementById("counts");
    const given = settings();
    try {
      const found = peftref.count(technique.count, given, form.elements.host.value);
      output.className = "";
      output.replaceChildren(
        cell("strong", group(found.trained)),
        ` trained, ${share(found.trained, found.host)} of the host's ${group(found.host)}; `,
        `${group(found.stored)} stored, ${group(found.inference)} needed at inference.`,
      );
      output.dataset.trained = found.trained;
      output.dataset.stored = found.stored;
      output.dataset.inference = found.inference;
      breakdown(found.rows);
    } catch (error) {
      output.className = "problem";
      output.textContent = `${error.message}.`;
      delete output.dataset.trained;
      breakdown([]);
    }
  };

  for (const event of ["input", "change"]) form.addEventListener(event, tell);
  form.addEventListener("submit", (event) => event.preventDefault());
  tell();
})();
