// Sizes: polynomials with exact fractions, evaluated as peftref.language.size does.
"use strict";
window.peftref = window.peftref || {};
(() => {
  class Fraction {
    constructor(top, bottom = 1n) {
      let [a, b] = [top < 0n ? -top : top, bottom < 0n ? -bottom : bottom];
      while (b) [a, b] = [b, a % b];
      const divisor = (bottom < 0n ? -1n : 1n) * (a || 1n);
      [this.top, this.bottom] = [top / divisor, bottom / divisor];
    }
    plus(other) {
      return new Fraction(this.top * other.bottom + other.top * this.bottom, this.bottom * other.bottom);
    }
    times(other) {
      return new Fraction(this.top * other.top, this.bottom * other.bottom);
    }
    over(other) {
      if (other.top === 0n) throw new Error("a size is divided by zero");
      return new Fraction(this.top * other.bottom, this.bottom * other.top);
    }
    less(other) {
      return this.top * other.bottom < other.top * this.bottom;
    }
    floor() {
      const whole = this.top / this.bottom;
      return new Fraction(whole * this.bottom > this.top ? whole - 1n : whole);
    }
    ceil() {
      const whole = this.top / this.bottom;
      return new Fraction(whole * this.bottom < this.top ? whole + 1n : whole);
    }
  }

  const functions = {
    floordiv: (a, b) => a.over(b).floor(),
    ceil: (a, b) => a.over(b).ceil(),
    div: (a, b) => {
      const ratio = a.over(b);
      if (ratio.bottom !== 1n) throw new Error(`${a.top} does not divide by ${b.top}`);
      return ratio;
    },
    min: (a, b) => (b.less(a) ? b : a),
    max: (a, b) => (a.less(b) ? b : a),
  };

  const atom = (found, values) => {
    if (typeof found === "string") {
      if (!Object.hasOwn(values, found)) throw new Error(`no value is known for the size ${found}`);
      return new Fraction(BigInt(values[found]));
    }
    const [name, ...args] = found;
    return functions[name](...args.map((arg) => polynomial(arg, values)));
  };

  const polynomial = (size, values) => {
    let total = new Fraction(0n);
    for (const [top, bottom, factors] of size) {
      let product = new Fraction(BigInt(top), BigInt(bottom));
      for (const [found, power] of factors) {
        const value = atom(found, values);
        for (let i = 0; i < Math.abs(power); i++) product = power > 0 ? product.times(value) : product.over(value);
      }
      total = total.plus(product);
    }
    return total;
  };

  const symbols = (size) =>
    size.flatMap(([, , factors]) =>
      factors.flatMap(([found]) => (typeof found === "string" ? [found] : found.slice(1).flatMap(symbols))));

  // A size as a whole number, a BigInt; an error where a division leaves a rest.
  peftref.size = (size, values) => {
    const found = polynomial(size, values);
    if (found.bottom !== 1n) {
      const given = [...new Set(symbols(size))].sort().map((name) => `${name} = ${values[name]}`);
      throw new Error(`a size is no whole number with ${given.join(", ")}; choose sizes that divide`);
    }
    return found.top;
  };
})();
