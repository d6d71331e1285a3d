// Draws the charts of the page with Observable Plot, and reads their values out by pointer and by keyboard.
"use strict";
(() => {
  const all = JSON.parse(document.getElementById("data").textContent);
  const short = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});
  const exact = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
  const money = new Intl.NumberFormat("en", {minimumFractionDigits: 2, maximumFractionDigits: 2});
  const UNITS = ["B", "kB", "MB", "GB", "TB"];
  const PRINTED = 680; // px: the width of a printed page
  const ABOVE = 1.12; // how much higher than its highest mark a chart is
  let printing = false;

  function size(bytes) {
    let at = 0;
    while (bytes >= 1000 && at < UNITS.length - 1) { bytes /= 1000; at += 1; }
    return `${bytes.toLocaleString("en", {maximumFractionDigits: bytes < 100 && at ? 1 : 0})} ${UNITS[at]}`;
  }

  const dates = (options) => new Intl.DateTimeFormat("en-GB", {timeZone: "UTC", ...options});
  const inDays = dates({weekday: "short", day: "numeric", month: "long"});
  const inHours = dates({weekday: "short", day: "numeric", month: "long", hour: "2-digit", minute: "2-digit"});
  const inAll = dates({day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit"});
  const LAST = 6; // the last colour, and the last texture
  // A printed texture would be an image for each bar: there, each bar has the number of its series instead.
  const fillOf = (at) => (printing ? `var(--c${Math.min(at, LAST)})` : `url(#s${Math.min(at, LAST)})`);

  function drawing(name, attributes, ...inside) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    made.append(...inside);
    return made;
  }

  const sign = (...inside) => drawing("svg", {viewBox: "0 0 16 12", "aria-hidden": "true"}, ...inside);
  const area = {width: 16, height: 12};
  const swatch = (at) => sign(
    drawing("rect", {...area, class: `c${Math.min(at, LAST)}`}),
    drawing("rect", {...area, class: "screen", fill: `url(#s${Math.min(at, LAST)})`}),
    drawing("text", {x: 8, y: 9.5, class: "paper"}, String(at + 1)),
  );
  const stroke = (dashed) => sign(drawing("path", {d: "M0,6H16", class: dashed ? "stroke dashed" : "stroke"}));

  // -- charts: each gives its drawing, its legend, and what it says at each place -------------------

  function bars(data) {
    const fills = () => data.series.map((_, at) => (data.tone === "bad" ? "var(--bad)" : fillOf(at)));
    const rows = data.series.flatMap((each, at) => each.values.map((value, n) => ({
      x1: data.starts[n], x2: data.starts[n] + data.length, value, at})));
    const sums = data.starts.map((_, n) => data.series.reduce((sum, each) => sum + each.values[n], 0));
    const name = (data.unit === "day" ? inDays : inHours).format;
    const many = data.series.length > 1;
    return {
      legend: many ? data.series.map((each, at) => [each.name, swatch(at)]) : [],
      places: data.starts.map((start) => start + data.length / 2),
      say: (n) => ({
        title: name(data.starts[n]) + (n === data.starts.length - 1 && data.lasts ? ", so far" : ""),
        rows: [
          ...data.series.map((each, at) => [each.name, exact.format(each.values[n]), swatch(at), each.values[n]])
            .filter((row) => row[3] || !many),
          ...(many ? [["total", `${exact.format(sums[n])} ${data.noun}`]] : []),
        ],
      }),
      draw: (width) => Plot.plot({
        ...frame(width, Math.max(...sums)),
        x: {type: "utc", label: null, domain: [data.starts[0], data.starts.at(-1) + data.length]},
        color: {type: "categorical", domain: data.series.map((_, at) => at), range: fills()},
        marks: [
          ...axes(width, Math.max(...sums), short.format, data.noun, data.starts),
          Plot.rectY(rows, Plot.stackY({x1: "x1", x2: "x2", y: "value", fill: "at", order: "at",
            insetLeft: data.starts.length > 60 ? 0.3 : 1, insetRight: data.starts.length > 60 ? 0.3 : 1, insetTop: many ? 0.5 : 0, className: "bar"})),
          printing && many ? Plot.text(rows.filter((row) => row.value > Math.max(...sums) / 18), Plot.stackY({x: (row) => (row.x1 + row.x2) / 2,
            y: "value", z: "at", order: "at", text: (row) => String(row.at + 1), fill: "white", fontSize: 8, fontWeight: 700})) : null,
          Plot.ruleY([0], {stroke: "currentColor"}),
        ],
      }),
    };
  }

  function line(data) {
    const format = data.noun === "bytes" ? size : short.format;
    const said = data.noun === "bytes" ? size : (value) => `${exact.format(value)} ${data.noun}`;
    const points = [
      ...data.known.map(([at, value]) => ({at, value})),
      ...data.forecast.slice(1).map(([at, value]) => ({at, value, expected: true})),
    ];
    const now = data.known.at(-1);
    const highest = Math.max(...points.map((point) => point.value));
    const limit = data.limit && data.limit < 2.5 * highest ? data.limit : null;
    const forecast = data.forecast.length > 1;
    return {
      legend: forecast ? [["remembered", stroke(false)], ["forecast", stroke(true)]] : [],
      places: points.map((point) => point.at),
      say: (n) => ({title: inAll.format(points[n].at), rows: [[points[n].expected ? "forecast" : "remembered", said(points[n].value)]]}),
      draw: (width) => Plot.plot({
        ...frame(width, Math.max(highest, limit || 0)),
        x: {type: "utc", label: null},
        marks: [
          ...axes(width, Math.max(highest, limit || 0), format, data.noun === "bytes" ? "memory" : data.noun, points.map((point) => point.at)),
          Plot.areaY(data.known, {x: "0", y: "1", fill: "var(--c0)", fillOpacity: 0.14}),
          Plot.lineY(data.known, {x: "0", y: "1", stroke: "var(--c0)", strokeWidth: 2.4, className: "line"}),
          forecast ? Plot.lineY(data.forecast, {x: "0", y: "1", stroke: "var(--c0)", strokeWidth: 2.2, strokeDasharray: "5 4", className: "line"}) : null,
          limit ? Plot.ruleY([limit], {stroke: "var(--bad)", strokeWidth: 1.5, strokeDasharray: "2 3"}) : null,
          limit ? Plot.text([limit], {y: (value) => value, frameAnchor: "left", dy: -7, text: () => "memory is full", fill: "var(--bad)", textAnchor: "start"}) : null,
          Plot.dot([now], {x: "0", y: "1", r: 4, fill: "var(--c0)", stroke: "var(--card)", strokeWidth: 2}),
          forecast ? Plot.text([now], {x: "0", y: "1", text: () => "now", dy: -12, fill: "var(--ink)", fontWeight: 600}) : null,
          Plot.ruleY([0], {stroke: "currentColor"}),
        ],
      }),
    };
  }

  function costs(data) {
    const rows = data.ways.flatMap((way) => [{way: way.name, at: 0, value: way.storage}, {way: way.name, at: 1, value: way.ecpu}]);
    const highest = Math.max(...data.ways.map((way) => way.storage + way.ecpu));
    return {
      legend: [["storage", swatch(0)], ["ECPU (calls)", swatch(1)]],
      places: null,
      say: (n) => {
        const way = data.ways[n];
        return {title: way.name, rows: [["storage", `${money.format(way.storage)} USD`, swatch(0)],
          ["ECPU", `${money.format(way.ecpu)} USD`, swatch(1)], ["total", `${money.format(way.storage + way.ecpu)} USD a month`]]};
      },
      count: data.ways.length,
      draw: (width) => Plot.plot({
        width, height: 36 + 58 * data.ways.length, marginLeft: 1, marginRight: 90, marginTop: 4, marginBottom: 34, style: {background: "none", fontSize: "12px"},
        x: {label: "USD a month", domain: [0, highest], ticks: width < 480 ? 3 : 6, grid: true, labelArrow: "none"},
        y: {label: null, axis: null, padding: 0.5, domain: data.ways.map((way) => way.name)},
        color: {type: "categorical", domain: [0, 1], range: [fillOf(0), fillOf(1)]},
        marks: [
          Plot.barX(rows, Plot.stackX({y: "way", x: "value", fill: "at", order: "at", className: "bar"})),
          Plot.text(data.ways, {y: "name", x: 0, text: "name", textAnchor: "start", dy: -24, fill: "var(--ink)", fontWeight: 600}),
          Plot.text(data.ways, {y: "name", x: (way) => way.storage + way.ecpu, text: (way) => `${money.format(way.storage + way.ecpu)} USD`,
            textAnchor: "start", dx: 7, fill: "var(--ink)", fontWeight: 600}),
        ],
      }),
    };
  }

  function frame(width, highest) {
    return {
      width, height: printing ? 205 : Math.round(Math.min(280, Math.max(210, width * 0.46))), marginLeft: 54, marginRight: 14, marginTop: 26, marginBottom: 30,
      style: {background: "none", fontSize: "12px"},
      y: {domain: [0, Math.max(highest * ABOVE, 1)]},
    };
  }

  // Hours as 14:00, with the date below the first and each midnight; of days the library's own words are good.
  const hourly = (at, n) => `${at.toISOString().slice(11, 16)}${n === 0 || at.getUTCHours() === 0 ? `\n${inDays.format(at).split(" ").slice(1).join(" ")}` : ""}`;

  function axes(width, highest, tickFormat, label, times) {
    const short = times[times.length - 1] - times[0] < 3 * 86400000;
    const ticks = Math.min(5, Math.max(1, Math.floor(highest))); // there are no halves of posts
    return [
      Plot.gridY({stroke: "var(--grid)", strokeOpacity: 1, ticks}),
      Plot.axisY({tickSize: 0, ticks, tickFormat, label, labelArrow: "none", color: "currentColor"}),
      Plot.axisX({ticks: Math.max(2, Math.min(8, Math.floor(width / 85))), tickSize: 4, color: "currentColor", ...(short ? {tickFormat: hourly} : {})}),
    ];
  }

  // -- reading values: the pointer and the arrow keys move the same mark ----------------------------

  const KINDS = {bars, line, costs};

  function start(element) {
    const data = all[element.dataset.chart];
    const chart = KINDS[data.kind](data);
    const legend = document.querySelector(`[data-legend="${element.dataset.chart}"]`);
    for (const [name, mark] of chart.legend) {
      const entry = document.createElement("span");
      entry.append(mark, name);
      legend.append(entry);
    }
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    const spoken = element.parentElement.querySelector(".said");
    const count = chart.places ? chart.places.length : chart.count;
    let drawn = null, at = null;

    function draw() {
      const width = printing ? PRINTED : Math.floor(element.clientWidth);
      if (width < 50) return;
      drawn = chart.draw(width);
      drawn.setAttribute("aria-hidden", "true"); // its numbers are read out, and stand in the table
      element.replaceChildren(drawn, tip);
      if (at !== null) show(at, false);
    }

    function place(n) {
      if (chart.places) return {x: drawn.scale("x").apply(chart.places[n])};
      const scale = drawn.scale("y");
      return {y: scale.apply(data.ways[n].name) + scale.bandwidth / 2};
    }

    function show(n, aloud) {
      at = Math.max(0, Math.min(count - 1, n));
      const {title, rows} = chart.say(at), where = place(at);
      tip.replaceChildren(Object.assign(document.createElement("b"), {textContent: title}), ...rows.map(row));
      tip.hidden = false;
      drawn.querySelector(".cursor")?.remove();
      const box = drawn.viewBox.baseVal, ratio = drawn.clientWidth / box.width || 1;
      const ends = where.x === undefined ? {x1: 0, x2: box.width, y1: where.y + 16, y2: where.y + 16} : {x1: where.x, x2: where.x, y1: 18, y2: box.height - 30};
      drawn.append(drawing("line", {...ends, class: "cursor"}));
      const left = where.x === undefined ? element.clientWidth * 0.5 : where.x * ratio + 12;
      const flipped = left + tip.offsetWidth > element.clientWidth && where.x !== undefined ? where.x * ratio - tip.offsetWidth - 12 : left;
      tip.style.transform = `translate(${Math.max(0, Math.min(flipped, element.clientWidth - tip.offsetWidth))}px, ${where.y === undefined ? 6 : where.y * ratio + 18}px)`;
      if (aloud) spoken.textContent = `${title}: ${rows.map(([name, value]) => `${name} ${value}`).join(", ")}`;
    }

    function hide() {
      at = null;
      tip.hidden = true;
      drawn?.querySelector(".cursor")?.remove();
    }

    function nearest(event) {
      const box = drawn.getBoundingClientRect(), ratio = drawn.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
      let best = 0, least = Infinity;
      for (let n = 0; n < count; n += 1) {
        const where = place(n), distance = Math.abs(where.x === undefined ? where.y - y : where.x - x);
        if (distance < least) { least = distance; best = n; }
      }
      return best;
    }

    const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 7, PageUp: -7, Home: -Infinity, End: Infinity};
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      const step = steps[event.key];
      if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      show(at === null ? (step < 0 && step !== -Infinity ? count - 1 : step === Infinity ? count - 1 : 0) : at + step, true);
    });
    for (const name of ["pointermove", "pointerdown"]) element.addEventListener(name, (event) => drawn && show(nearest(event), false));
    element.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    element.addEventListener("blur", hide);
    new ResizeObserver(() => printing || draw()).observe(element);
    draw();
    return {draw, hide};
  }

  function row([name, value, mark]) {
    const made = document.createElement("div"), left = document.createElement("span"), right = document.createElement("span");
    if (mark) left.append(mark);
    left.append(name);
    right.textContent = value;
    made.append(left, right);
    return made;
  }

  for (const details of document.querySelectorAll("details")) details.open = false; // open where no script runs
  const charts = [...document.querySelectorAll(".chart")].map(start);
  function print(now) {
    printing = now;
    for (const chart of charts) { chart.hide(); chart.draw(); }
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();
