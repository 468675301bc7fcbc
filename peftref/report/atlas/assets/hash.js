// What the reader has chosen, kept behind the # of the address, so that it can be linked to.
"use strict";
window.peftref = window.peftref || {};
peftref.readHash = () => new URLSearchParams(location.hash.slice(1));
peftref.writeHash = (values) => {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value) params.set(name, value);
  const text = params.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
};
