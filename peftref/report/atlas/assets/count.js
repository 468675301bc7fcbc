// Counts: the leaves of a technique placed on the sites of a host, as `peftref count` does it.
"use strict";
window.peftref = window.peftref || {};
(() => {
  const sites = (host) =>
    host.sites.flatMap(([stack, slot, layers, sizes, lacks, own]) =>
      (layers ?? [null]).map((layer) => ({
        stack, slot, layer, lacks, own, sizes: host.sizes[sizes],
        name: [stack, ...(layer === null ? [] : [layer]), slot].join("."),
      })));

  // The sites of some words of `at`; every word must match something.
  const select = (words, named, host) => {
    const last = host.stacks[host.stacks.length - 1][0];
    const stacks = named && named.map((name) => (name === "last" ? last : name));
    const chosen = new Map();
    for (const word of words) {
      const [first, ...rest] = word.split(".");
      const prefixed = rest.length > 0 && host.stacks.some(([name]) => name === first);
      const slot = prefixed ? rest.join(".") : word;
      const meant = peftref.hosts.words[slot] ?? [slot];
      let found = sites(host).filter((site) =>
        meant.includes(site.slot) && (!prefixed || site.stack === first) && (!stacks || stacks.includes(site.stack)));
      if (slot === "embedding" && !prefixed) found = found.filter((site) => site.stack === found[0].stack);
      if (!found.length) throw new Error(`this host has no slot ${word}`);
      for (const site of found) chosen.set(site.name, site);
    }
    return [...chosen.values()];
  };

  const layersOf = ({ rule, listed, count }, n, settings) => {
    const all = [...Array(n).keys()];
    if (rule === "all") return all;
    if (rule === "span") {
      const [start, stop, parts] = listed;
      return all.slice(Math.floor((n * start) / parts), Math.floor((n * stop) / parts));
    }
    if (rule === "list") {
      const wrong = listed.filter((layer) => layer < -n || layer >= n);
      if (wrong.length) throw new Error(`there is no layer ${wrong.join(", ")}: the stack has ${n}, counted from 0`);
      return listed.map((layer) => (layer + n) % n);
    }
    const many = typeof count === "string" ? settings[count] : count;
    if (rule === "every") return all.filter((layer) => layer % many === 0);
    if (many > n) throw new Error(`the ${rule} ${many} layers are asked for, and the stack has ${n}`);
    return rule === "first" ? all.slice(0, many) : all.slice(n - many);
  };

  // Whether a site is one of several convolutions before the layers, which has a depth of its own.
  const deep = (site) => site.layer !== null && site.slot.startsWith("embedding");

  // The sites of an insertion; none where the host lacks its slots and it may be left out.
  const standing = (insert, host) => {
    try {
      return select(insert.at, insert.stacks, host);
    } catch (error) {
      if (insert.optional) return [];
      throw error;
    }
  };

  const beginning = (site, insert, set) => {
    for (const [name, leaf] of Object.entries(insert.leaves)) {
      if (leaf.needsE && site.lacks.includes("E") && set.some(([, value]) => value.reads.includes(name))) {
        throw new Error(`this host has no embedding matrix for ${name} to begin from`);
      }
    }
  };

  const placements = (technique, settings, host) => {
    const found = [];
    for (const insert of technique.inserts) {
      const there = standing(insert, host);
      for (const [stack, n] of host.stacks) {
        const stems = there.filter((site) => site.stack === stack && deep(site)).length;
        const layers = new Set(layersOf(insert.layers, n, settings));
        const depths = new Set(stems ? layersOf(insert.layers, stems, settings) : []);
        for (const site of there) {
          const chosen = site.layer === null ? insert.layers.rule === "all" : (deep(site) ? depths : layers).has(site.layer);
          if (site.stack !== stack || !chosen) continue;
          const set = Object.entries(insert.slots[site.slot]).filter(([, value]) => !site.lacks.includes(value.needs));
          beginning(site, insert, set);
          if (set.length) found.push({ site, insert, values: set.map(([, value]) => value) });
        }
      }
    }
    if (technique.inserts.length && !found.length) throw new Error("it stands nowhere on this host");
    return found;
  };

  const copyName = (name, scope, site) => {
    const layer = site.layer === null ? [] : [site.layer, ...(deep(site) ? [site.slot] : [])];
    const front = { site: [site.name], layer: [site.stack, ...layer], slot: [site.stack, site.slot], design: [] }[scope];
    return [...front, name].join(".");
  };

  const product = (numbers) => numbers.reduce((total, number) => total * number, 1n);

  const copies = (placed, settings) => {
    const found = new Map();
    for (const { site, insert, values } of placed) {
      const sizes = { ...site.sizes, ...settings };
      for (const [name, leaf] of Object.entries(insert.leaves)) {
        if (!values.some((value) => value.reads.includes(name))) continue;
        const key = copyName(name, leaf.scope, site);
        const known = found.get(key);
        let shape = leaf.dims.map((dim) => peftref.size(dim, sizes));
        if (known && leaf.fit) shape = shape.map((extent, i) => (extent > known.shape[i] ? extent : known.shape[i]));
        else if (known && String(known.shape) !== String(shape)) {
          throw new Error(`the leaf ${name} is shared by sites that need [${known.shape}] and [${shape}]`);
        }
        found.set(key, { name, leaf, shape, slot: site.slot, numel: product(shape) });
      }
    }
    return found;
  };

  // What is left to keep once it is trained: leaves that are still read, and parts that are smaller than what makes them.
  const inference = (placed, found, settings) => {
    const needed = new Set();
    let made = 0n;
    for (const { site, insert, values } of placed) {
      const sizes = { ...site.sizes, ...settings };
      const parts = new Map(values.flatMap((value) => value.parts.map((part) => [part.name, part])));
      for (const part of parts.values()) {
        const read = part.reads.map((name) => copyName(name, insert.leaves[name].scope, site));
        const size = product(part.dims.map((dim) => peftref.size(dim, sizes)));
        if (part.leaf || size > read.reduce((total, key) => total + found.get(key).numel, 0n)) {
          for (const key of read) needed.add(key);
        } else if (read.length) made += size;
      }
    }
    const kept = made + [...needed].reduce((total, key) => total + found.get(key).numel, 0n);
    const all = [...found.values()].reduce((total, copy) => total + copy.numel, 0n);
    return kept < all ? kept : all;
  };

  const tuned = (technique, host) => {
    if (technique.tune === "none") return 0n;
    if (technique.tune === "all") return BigInt(host.parameters);
    return select(technique.tune, null, host).reduce((total, site) => total + BigInt(site.own), 0n);
  };

  // Equal leaves at one slot together: shape, how often, how many numbers.
  const table = (found) => {
    const rows = new Map();
    for (const { name, leaf, shape, slot, numel } of found.values()) {
      const where = leaf.scope === "design" ? "the whole design" : slot;
      const key = [name, where, shape, leaf.trained].join("|");
      const row = rows.get(key) ?? { name, where, shape, trained: leaf.trained, copies: 0, numel: 0n };
      row.copies += 1;
      row.numel += numel;
      rows.set(key, row);
    }
    return [...rows.values()];
  };

  // trained, stored, inference as BigInts, and the rows that they are made of; an Error in words where it cannot be.
  peftref.count = (technique, given, hostName) => {
    const host = peftref.hosts.hosts[hostName];
    const settings = { ...technique.settings, ...given };
    for (const name of technique.sizes) {
      if (!Number.isInteger(settings[name]) || settings[name] < 1) {
        throw new Error(`${name} is a size, and must be a whole number of at least 1`);
      }
    }
    const placed = placements(technique, settings, host);
    const found = copies(placed, settings);
    const own = tuned(technique, host);
    const sum = (some) => some.reduce((total, copy) => total + copy.numel, 0n);
    const all = [...found.values()];
    return {
      trained: sum(all.filter((copy) => copy.leaf.trained)) + own,
      stored: sum(all) + own,
      inference: inference(placed, found, settings) + own,
      host: BigInt(host.parameters),
      own,
      rows: table(found),
    };
  };
})();
