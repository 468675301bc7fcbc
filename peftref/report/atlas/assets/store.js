// Data that the scripts under data/ put here; another technique's is loaded when it is asked for.
"use strict";
window.peftref = window.peftref || {};
(() => {
  const loading = new Map();
  peftref.techniques = new Map();
  peftref.put = (kind, data) => {
    if (kind === "technique") peftref.techniques.set(data.name, data);
    else peftref[kind] = data;
  };
  peftref.load = (name) => {
    if (!Object.hasOwn(peftref.names.titles, name)) return Promise.reject(new Error(`there is no technique ${name}`));
    if (!loading.has(name)) {
      loading.set(name, new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = `${document.documentElement.dataset.root}data/${name}.js`;
        script.onload = () => done(peftref.techniques.get(name));
        script.onerror = () => failed(new Error(`data/${name}.js cannot be read`));
        document.head.append(script);
      }));
    }
    return loading.get(name);
  };
})();
