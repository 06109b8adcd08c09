// Draws the page's figures and makes its tables sortable. Without it the page holds as much.
// All of it stands in one function, so that no name of it is global.
(function () {
  "use strict";
  document.documentElement.classList.add("scripted");

  // The specification for a place that is too narrow for it by `over` pixels.
  function narrowed(spec, over) {
    var copy = JSON.parse(JSON.stringify(spec));
    [copy, copy.spec || {}].forEach(function (view) {
      if (typeof view.width === "number") view.width = Math.max(120, view.width - over);
    });
    copy.config.legend.columns = 1;
    copy.config.axis.labelLimit = 150;
    copy.config.axis.labelFontSize = 10;
    copy.config.header.labelLimit = 160;
    return copy;
  }

  function embed(place, spec, menu) {
    return vegaEmbed(place, spec, {
      mode: "vega-lite",
      renderer: "svg",
      ast: true, // expressions are interpreted: the page's policy allows no other script
      actions: menu && { export: true, source: false, compiled: false, editor: false },
      config: { background: "transparent" },
      downloadFileName: place.parentElement.id
    });
  }

  // The heading beside it says what the title says. What is wider than its place is drawn again,
  // and once more where the labels' new width asks for it.
  function draw(figure) {
    var place = figure.querySelector(".drawing");
    var spec = JSON.parse(figure.querySelector("script").textContent);
    delete spec.title;
    var over = function () {
      var svg = place.querySelector("svg.marks");
      return svg ? Math.ceil(svg.getBoundingClientRect().width) - place.clientWidth : 0;
    };
    return embed(place, spec, true).then(function (result) {
      var first = over();
      if (first <= 0) return result;
      result.finalize();
      return embed(place, narrowed(spec, first), false).then(function (again) {
        var second = over();
        if (second <= 0) return again;
        again.finalize();
        return embed(place, narrowed(spec, first + second), false);
      });
    }).catch(function (error) {
      place.textContent = "This figure could not be drawn: " + error;
      console.error(error);
    });
  }

  var figures = Array.prototype.slice.call(document.querySelectorAll("figure"));
  var drawing = Promise.resolve();
  function drawAll() {
    drawing = drawing.then(function () { return Promise.all(figures.map(draw)); })
      .then(function () { document.documentElement.dataset.drawn = String(figures.length); });
  }
  drawAll();
  var width = window.innerWidth, waiting = 0;
  window.addEventListener("resize", function () {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 200);
  });

  // A number as the report writes it, or NaN for a text.
  function numberIn(text) { return parseFloat(text.replace(/^[^\d+-]+/, "")); }

  function sort(table, column, button) {
    var head = button.parentElement;
    var down = head.getAttribute("aria-sort") === "ascending";
    var body = table.tBodies[0];
    var rows = Array.prototype.slice.call(body.rows);
    rows.sort(function (a, b) {
      var x = a.cells[column].textContent, y = b.cells[column].textContent;
      var order = head.classList.contains("n")
        ? (isNaN(numberIn(x)) ? 1 : 0) - (isNaN(numberIn(y)) ? 1 : 0) || numberIn(x) - numberIn(y) || 0
        : x < y ? -1 : x > y ? 1 : 0;
      return down ? -order : order;
    });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) {
      cell.removeAttribute("aria-sort");
    });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.forEach(function (row) { body.appendChild(row); });
  }

  document.querySelectorAll("table").forEach(function (table) {
    if (table.tBodies[0].rows.length < 2) return;
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      button.addEventListener("click", function () { sort(table, column, button); });
      head.appendChild(button);
    });
  });

  // A field that leaves only the prompts whose name or texts hold what is typed.
  var outputs = document.getElementById("outputs");
  var prompts = outputs.querySelectorAll(".prompt");
  if (prompts.length > 8) {
    var field = document.createElement("input");
    field.className = "filter";
    field.type = "search";
    field.placeholder = "Find among prompts and outputs";
    field.setAttribute("aria-label", field.placeholder);
    outputs.insertBefore(field, outputs.querySelector(".prompt"));
    field.addEventListener("input", function () {
      var wanted = field.value.toLowerCase();
      prompts.forEach(function (prompt) {
        prompt.hidden = prompt.textContent.toLowerCase().indexOf(wanted) < 0;
      });
    });
  }

  // On paper nothing can be unfolded.
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("main details:not([open])").forEach(function (details) {
      details.open = true;
      details.dataset.printed = "1";
    });
  });
  window.addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-printed]").forEach(function (details) {
      details.open = false;
      delete details.dataset.printed;
    });
  });
})();
