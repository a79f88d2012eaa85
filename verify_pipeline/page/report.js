"use strict";

// Sorts, filters and pages the table of images. Texts are set as text, never as markup.
(() => {
  const DASH = "–";
  const KINDS = { "✓": "verified", "≈": "tied", "?": "open" };

  // As the package writes numbers: a power of ten below 0.0001 and from 10^digits on.
  function significant(value, digits) {
    const rounded = Number(value.toPrecision(digits));
    const size = Math.abs(rounded);
    let text = String(rounded);
    if (size !== 0 && (size < 1e-4 || size >= 10 ** digits)) {
      const [mantissa, power] = rounded.toExponential(digits - 1).split("e");
      text = `${Number(mantissa)}e${Number(power)}`;
    }
    return text.replaceAll("-", "−");
  }

  function secondsOf(value) {
    if (value < 100) return significant(value, 3);
    return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u2009");
  }

  function textOf(column, value) {
    if (value === null) return DASH;
    if (column.choices.length) return column.choices[value];
    if (column.name === "image") return String(value);
    return column.name === "seconds" ? secondsOf(value) : significant(value, 4);
  }

  function imagesText(count) {
    return count === 1 ? "1 image" : `${count} images`;
  }

  // Ends of "7" or "20-29", and of "20:30", which leaves out 30 as --indices does; null: no span.
  function spanOf(part) {
    const [, first, sign, second] = /^(\d+)(?:([-–:])(\d+))?$/.exec(part) ?? [];
    if (first === undefined) return null;
    const [start, stop] = [Number(first), Number(second ?? first)];
    if (sign === ":") return start < stop ? [start, stop - 1] : null;
    return [Math.min(start, stop), Math.max(start, stop)];
  }

  // A list of numbers and spans as a test of numbers; null: the text is no such list.
  function numbersOf(text) {
    const parts = text.replace(/\s*([-–:])\s*/g, "$1").split(/[\s,;]+/).filter(Boolean);
    const spans = parts.map(spanOf);
    if (spans.includes(null)) return null;
    return (number) => !spans.length || spans.some(([low, high]) => low <= number && number <= high);
  }

  function kindOf(text) {
    return KINDS[text[0]] ?? (text.includes("wrong") ? "wrong" : "falsified");
  }

  function browse(root) {
    const { columns, values } = JSON.parse(root.querySelector("[data-images]").textContent);
    const find = (selector) => root.querySelector(selector);
    const filters = [...root.querySelectorAll("[data-filter]")];
    const headings = [...root.querySelectorAll("th[data-column]")];
    const state = { column: "image", descending: false, page: 0, order: [] };

    function chosen() {
      const tests = [];
      let understood = true;
      for (const field of filters) {
        const name = field.dataset.filter;
        if (name === "image") {
          const test = numbersOf(field.value);
          understood = test !== null;
          field.setAttribute("aria-invalid", String(!understood));
          if (test) tests.push((place) => test(values.image[place]));
        } else if (field.value !== "") {
          const wanted = Number(field.value);
          tests.push((place) => values[name][place] === wanted);
        }
      }
      const all = values.image.map((_, place) => place);
      return { found: all.filter((place) => tests.every((test) => test(place))), understood };
    }

    // Rows without a value come last, whatever the direction.
    function compare(first, second) {
      const [a, b] = [values[state.column][first], values[state.column][second]];
      if (a === b) return first - second;
      if (a === null) return 1;
      if (b === null) return -1;
      return state.descending ? b - a : a - b;
    }

    function cell(column, place) {
      const element = document.createElement("td");
      const text = textOf(column, values[column.name][place]);
      if (column.choices.length) element.className = "text";
      if (column.name === "verdict") element.classList.add(`is-${kindOf(text)}`);
      const target = `${root.dataset.run}-image-${text}`;
      if (column.name === "image" && document.getElementById(target)) {
        const link = document.createElement("a");
        link.href = `#${target}`;
        link.textContent = text;
        element.append(link);
      } else {
        element.textContent = text;
      }
      if (column.choices.length && text.length > 30) element.title = text;
      return element;
    }

    function show(understood) {
      const size = Number(find("[data-rows]").value);
      const pages = Math.max(1, Math.ceil(state.order.length / size));
      state.page = Math.min(Math.max(state.page, 0), pages - 1);
      const first = state.page * size;
      const part = state.order.slice(first, first + size);
      find("tbody").replaceChildren(
        ...part.map((place) => {
          const row = document.createElement("tr");
          row.append(...columns.map((column) => cell(column, place)));
          return row;
        }),
      );
      const [found, all] = [state.order.length, values.image.length];
      const of = found === all ? imagesText(all) : `${imagesText(found)} of ${all}`;
      const rows = part.length === 1 ? `Row ${first + 1}` : `Rows ${first + 1} to ${first + part.length}`;
      const shown = found ? `${rows} of ${of}.` : `No image of ${all}.`;
      find("[data-status]").textContent = understood
        ? shown
        : `${shown} "Images" takes numbers and spans, such as 7, 20-29 or 20:30 (without 30).`;
      find("[data-place]").textContent = `Page ${state.page + 1} of ${pages}`;
      // A button that is disabled would lose the focus of the keyboard.
      find('[data-page="-1"]').setAttribute("aria-disabled", String(state.page === 0));
      find('[data-page="1"]').setAttribute("aria-disabled", String(state.page === pages - 1));
    }

    function update() {
      const { found, understood } = chosen();
      state.order = found.sort(compare);
      show(understood);
    }

    function restart() {
      state.page = 0;
      update();
    }

    function sortBy(name) {
      state.descending = state.column === name && !state.descending;
      state.column = name;
      for (const heading of headings) {
        const direction = state.descending ? "descending" : "ascending";
        heading.setAttribute("aria-sort", heading.dataset.column === name ? direction : "none");
      }
      restart();
    }

    for (const heading of headings) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sortBy(heading.dataset.column));
      heading.replaceChildren(button);
    }
    for (const field of filters) {
      field.addEventListener(field.tagName === "SELECT" ? "change" : "input", restart);
    }
    for (const button of root.querySelectorAll("[data-page]")) {
      button.addEventListener("click", () => {
        state.page += Number(button.dataset.page);
        update();
      });
    }
    find("[data-rows]").addEventListener("change", restart);
    find("[data-reset]").addEventListener("click", () => {
      for (const field of filters) field.value = "";
      restart();
    });
    find(".controls").hidden = false;
    find(".pager").hidden = false;
    update();
  }

  for (const root of document.querySelectorAll(".browser")) browse(root);

  // Paper cannot unfold; afterwards the window is as it was.
  const unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded.push(...document.querySelectorAll("details:not(.data, [open])"));
    for (const element of unfolded) element.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const element of unfolded.splice(0)) element.open = false;
  });
})();
