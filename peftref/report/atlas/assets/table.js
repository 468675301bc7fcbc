// The typology table: filtered by text and by values, sorted by a column, its state kept in the address.
"use strict";
(() => {
  const form = document.getElementById("filters");
  const table = document.getElementById("techniques");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((row, position) => {
    const cells = new Map([...row.cells].map((cell) => {
      const parts = [...cell.querySelectorAll("span")].map((part) => part.textContent);
      return [cell.dataset.key, cell.dataset.parts?.split(";") ?? (parts.length ? parts : [cell.textContent])];
    }));
    const text = [row.dataset.name, row.textContent, ...[...cells.values()].flat()].join("\n").toLowerCase();
    return { row, position, cells, text };
  });
  const selects = [...form.querySelectorAll("select")];
  let sorted = { key: "", down: false };

  const compare = (one, other) => {
    const [a, b] = [one, other].map((each) => each.cells.get(sorted.key).join("; "));
    const order = a.localeCompare(b, "en", { numeric: true, sensitivity: "base" }) || one.position - other.position;
    return sorted.down ? -order : order;
  };

  const draw = () => {
    const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter((select) => select.value);
    let shown = 0;
    for (const { row, cells, text } of rows) {
      row.hidden = !(words.every((word) => text.includes(word)) &&
        wanted.every((select) => cells.get(select.name).includes(select.value)));
      shown += row.hidden ? 0 : 1;
    }
    const ordered = sorted.key ? rows.toSorted(compare) : rows;
    body.append(...ordered.map(({ row }) => row));
    for (const head of heads) {
      if (head.dataset.key === sorted.key) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const all = rows.length;
    document.getElementById("shown").textContent = shown === all ? `${all} techniques` : `${shown} of ${all} techniques`;
  };

  const keep = () => {
    const values = Object.fromEntries(selects.map((select) => [select.name, select.value]));
    peftref.writeHash({ q: form.elements.q.value, ...values, sort: sorted.key && (sorted.down ? "-" : "") + sorted.key });
  };

  const read = () => {
    const hash = peftref.readHash();
    form.elements.q.value = hash.get("q") ?? "";
    for (const select of selects) {
      const value = hash.get(select.name) ?? "";
      select.value = [...select.options].some((option) => option.value === value) ? value : "";
    }
    if (selects.some((select) => select.value)) form.querySelector("details").open = true;
    const sort = hash.get("sort") ?? "";
    const key = sort.replace(/^-/, "");
    sorted = heads.some((head) => head.dataset.key === key) ? { key, down: sort.startsWith("-") } : { key: "", down: false };
    draw();
  };

  for (const head of heads) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
    button.addEventListener("click", () => {
      const { key } = head.dataset;
      sorted = { key, down: sorted.key === key && !sorted.down };
      draw();
      keep();
    });
    head.replaceChildren(button);
  }
  for (const event of ["input", "change"]) {
    form.addEventListener(event, () => {
      draw();
      keep();
    });
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    sorted = { key: "", down: false };
    draw();
    keep();
  }));
  window.addEventListener("hashchange", read);
  form.hidden = false;
  read();
})();
