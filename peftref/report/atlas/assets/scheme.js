// Light or dark: the system's choice, or the reader's own, remembered where the browser allows it.
"use strict";
(() => {
  const schemes = ["system", "light", "dark"];
  const read = () => {
    try {
      return localStorage.getItem("peftref-scheme");
    } catch {
      return null;
    }
  };
  const keep = (scheme) => {
    try {
      localStorage.setItem("peftref-scheme", scheme);
    } catch {
      // nothing is remembered
    }
  };
  const root = document.documentElement;
  root.dataset.scheme = schemes.includes(read()) ? read() : "system";
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("scheme");
    const tell = () => {
      button.textContent = { system: "◐", light: "☀", dark: "☾" }[root.dataset.scheme];
      button.title = `Colours: ${root.dataset.scheme}`;
      button.setAttribute("aria-label", button.title);
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.scheme = schemes[(schemes.indexOf(root.dataset.scheme) + 1) % schemes.length];
      keep(root.dataset.scheme);
      tell();
    });
    tell();
  });
})();
