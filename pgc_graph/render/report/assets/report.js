"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const $ = (id) => document.getElementById(id);
  const stem = data.name.replace(/\.onnx$/, "").replace(/[^\w.-]+/g, "_");

  // Files ------------------------------------------------------------------------------------------------------------

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${stem}_${name.replace(/[^\w.-]+/g, "_")}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function saveCsv(rows, name) {
    const quote = (cell) => (/[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
    const text = rows.map((row) => row.map((cell) => quote(String(cell ?? ""))).join(",")).join("\r\n");
    save(new Blob(["\ufeff", text, "\r\n"], { type: "text/csv;charset=utf-8" }), `${name}.csv`);
  }

  function saveCanvas(canvas, name) {
    canvas.toBlob((blob) => save(blob, `${name}.png`), "image/png");
  }

  // A drawing outside its page has no style sheet: what the page computed goes into each element.
  function saveDrawing(svg, name) {
    const copy = svg.cloneNode(true);
    const kept = ["fill", "stroke", "stroke-width", "opacity", "font-family", "font-size", "font-weight"];
    const originals = [svg, ...svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
      const style = getComputedStyle(originals[index]);
      for (const property of kept) element.style.setProperty(property, style.getPropertyValue(property));
    });
    const [width, height] = [Number(svg.dataset.width), Number(svg.dataset.height)];
    const scale = Math.min(2, 16000 / Math.max(width, height));
    copy.setAttribute("width", width * scale);
    copy.setAttribute("height", height * scale);
    const image = new Image();
    image.onload = () => {
      const canvas = blank(width * scale, height * scale);
      canvas.getContext("2d").drawImage(image, 0, 0);
      saveCanvas(canvas, name);
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  }

  function blank(width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fillRect(0, 0, width, height);
    return canvas;
  }

  // Tables -----------------------------------------------------------------------------------------------------------

  const valueOf = (row, column) => row.cells[column].dataset.value;

  function sortTable(table, column, kind) {
    const heads = [...table.tHead.rows[0].cells];
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head, index) =>
      head.setAttribute("aria-sort", index !== column ? "none" : down ? "descending" : "ascending"));
    const compare = (a, b) => {
      const [x, y] = [valueOf(a, column), valueOf(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last in either direction
      const order = kind === "number" ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
      return down ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }

  function filterTable(table, text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const content = [...row.cells].map((cell) => `${cell.textContent} ${cell.dataset.value}`).join(" ").toLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
    }
    $(table.dataset.count).textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  }

  for (const button of document.querySelectorAll(".sort")) {
    const head = button.closest("th");
    button.addEventListener("click", () => sortTable(head.closest("table"), head.cellIndex, button.dataset.kind));
  }
  for (const field of document.querySelectorAll(".filter")) {
    field.addEventListener("input", () => filterTable($(field.dataset.table), field.value));
  }
  for (const button of document.querySelectorAll("button.csv")) {
    button.addEventListener("click", () => {
      const table = $(button.dataset.table);
      const rows = [...table.tBodies[0].rows];
      const hasEnds = (column) => rows.some((row) => row.cells[column].dataset.low !== undefined);
      const heads = [...table.tHead.rows[0].cells].flatMap((head, column) =>
        [head.textContent, ...(hasEnds(column) ? [`${head.textContent} low`, `${head.textContent} high`] : [])]);
      const values = (row) => [...row.cells].flatMap(({ dataset }, column) =>
        [dataset.value, ...(hasEnds(column) ? [dataset.low, dataset.high] : [])]);
      saveCsv([heads, ...rows.filter((row) => !row.hidden).map(values)], table.dataset.name);
    });
  }
  for (const button of document.querySelectorAll("button.png")) {
    const svg = $(button.dataset.svg);
    button.addEventListener("click", () => saveDrawing(svg, svg.dataset.name ?? "graph"));
  }

  // Heatmaps of images -----------------------------------------------------------------------------------------------

  const tilesOf = (button) => [...button.closest("figure").querySelectorAll(".tile")];

  for (const button of document.querySelectorAll(".png-tiles")) {
    button.addEventListener("click", async () => {
      const tiles = tilesOf(button);
      await Promise.all(tiles.map((tile) => tile.querySelector("img").decode()));
      const images = tiles.map((tile) => tile.querySelector("img"));
      const [width, height] = [images[0].naturalWidth, images[0].naturalHeight];
      const canvas = blank((width + 10) * tiles.length + 10, height + 40);
      const context = canvas.getContext("2d");
      const style = getComputedStyle(document.body);
      context.font = `11px ${style.fontFamily}`;
      tiles.forEach((tile, index) => {
        context.drawImage(images[index], 10 + index * (width + 10), 10);
        context.fillStyle = style.color;
        context.fillText(tile.textContent, 10 + index * (width + 10), height + 27, width);
      });
      saveCanvas(canvas, button.closest("figure").dataset.name);
    });
  }
  for (const button of document.querySelectorAll(".csv-tiles")) {
    button.addEventListener("click", () => {
      const rows = tilesOf(button).slice(1).map((tile) => [tile.textContent, tile.dataset.value, tile.querySelector("img").alt]);
      saveCsv([["tensor", "intensity", "description"], ...rows], button.closest("figure").dataset.name);
    });
  }

  // The graph --------------------------------------------------------------------------------------------------------

  const svg = $("graph-svg");
  const view = $("graph-view");
  const nodes = [...svg.querySelectorAll(".node")];
  const full = { width: Number(svg.dataset.width), height: Number(svg.dataset.height) };
  let scale = 1;

  function zoom(wanted, clientX, clientY) {
    const box = view.getBoundingClientRect();
    const [x, y] = [(clientX ?? box.left + box.width / 2) - box.left, (clientY ?? box.top + box.height / 2) - box.top];
    const place = [(view.scrollLeft + x) / scale, (view.scrollTop + y) / scale];
    scale = Math.min(4, Math.max(0.02, wanted));
    svg.style.width = `${full.width * scale}px`;
    svg.style.height = `${full.height * scale}px`;
    view.scrollLeft = place[0] * scale - x;
    view.scrollTop = place[1] * scale - y;
  }

  const fit = () => zoom(Math.min(1.5, view.clientWidth / full.width));
  $("zoom-in").addEventListener("click", () => zoom(scale * 1.4));
  $("zoom-out").addEventListener("click", () => zoom(scale / 1.4));
  $("zoom-fit").addEventListener("click", fit);
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  // a plain wheel scrolls, as everywhere
    event.preventDefault();
    zoom(scale * Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
  }, { passive: false });

  let drag = null;
  view.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0) return;  // fingers scroll by themselves
    drag = { x: event.clientX + view.scrollLeft, y: event.clientY + view.scrollTop, startX: event.clientX, startY: event.clientY, moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag.moved ||= Math.hypot(event.clientX - drag.startX, event.clientY - drag.startY) > 4;
    if (!drag.moved) return;
    view.classList.add("dragging");
    view.scrollLeft = drag.x - event.clientX;
    view.scrollTop = drag.y - event.clientY;
  });
  let wasDragged = false;
  addEventListener("pointerup", () => {
    wasDragged = Boolean(drag?.moved);
    drag = null;
    view.classList.remove("dragging");
  });

  // One stop of the Tab key for the whole drawing; arrows move between its nodes.
  function move(from, to) {
    if (!nodes[to]) return;
    nodes[from].tabIndex = -1;
    nodes[to].tabIndex = 0;
    nodes[to].focus();
    nodes[to].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  nodes.forEach((node, index) => {
    node.addEventListener("click", () => { if (!wasDragged) choose(index); });
    node.addEventListener("keydown", (event) => {
      const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
      if (event.key === "Enter" || event.key === " ") choose(index);
      else if (event.key === "Home") move(index, 0);
      else if (event.key === "End") move(index, nodes.length - 1);
      else if (event.key in steps) move(index, Math.min(nodes.length - 1, Math.max(0, index + steps[event.key])));
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  });
  view.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(scale * 1.4);
    else if (event.key === "-") zoom(scale / 1.4);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });

  $("find-node").addEventListener("input", (event) => {
    const word = event.target.value.trim().toLowerCase();
    const matches = nodes.filter((node) => {
      const known = data.nodes[Number(node.dataset.node)];
      const hit = `${known.name} ${known.op} ${known.tensor}`.toLowerCase().includes(word);
      node.classList.toggle("dim", word !== "" && !hit);
      return hit;
    });
    $("found-nodes").textContent = word ? `${matches.length} of ${nodes.length} nodes` : "";
    if (word && matches.length) matches[0].scrollIntoView({ block: "nearest", inline: "center" });
  });

  $("nodes-csv").addEventListener("click", () => {
    const rows = data.nodes.map((node) => [
      node.name, node.op, node.tensor, node.block, node.dtype, node.shape?.join("x") ?? "",
      node.weights.map((weight) => weight.name).join(" "), node.impact?.rank, node.impact?.delta]);
    saveCsv([["node", "operator", "tensor", "block", "dtype", "shape", "weights", "rank", "mean delta"], ...rows], "nodes");
  });

  // A node's details -------------------------------------------------------------------------------------------------

  function element(tag, content, attributes = {}) {
    const made = document.createElement(tag);
    Object.assign(made, attributes);
    made.append(...[content ?? []].flat());
    return made;
  }

  const short = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toString());

  function facts(pairs) {
    return element("dl", pairs.flatMap(([key, value]) => [element("dt", key), element("dd", value)]));
  }

  function buttons(...actions) {
    return actions.map(([name, label, action]) => {
      const button = element("button", name, { type: "button", onclick: action });
      button.setAttribute("aria-label", label);
      return button;
    });
  }

  function choose(index) {
    nodes.forEach((node, other) => {
      node.classList.toggle("chosen", other === index);
      if (other === index) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    });
    const node = data.nodes[index];
    const pairs = [["operator", node.op], ["output", node.tensor], ["shape", node.shape?.join(" × ") || "unknown"], ["type", node.dtype || "unknown"]];
    if (node.impact) {
      const [low, high] = node.impact.interval;
      const range = low === null || high === null ? "" : `, 95 % interval ${short(low)} to ${short(high)}`;
      pairs.push(["ablation", `rank ${node.impact.rank}, mean Δ ${short(node.impact.delta)}${range}`]);
    }
    const weights = node.weights.flatMap(describeWeights);
    const maps = data.maps.filter((image) => image.maps[node.tensor]).map((image) => drawMap(node, image));
    $("details").replaceChildren(element("h3", node.name), facts(pairs), ...weights, ...maps);
  }

  function describeWeights(weight) {
    const shape = weight.shape.join(" × ") || "scalar";
    const pairs = [["shape", `${shape}, ${weight.dtype}`]];
    if (weight.mean === null) return [element("h4", weight.name), facts(pairs)];
    pairs.push(["mean, std", `${short(weight.mean)}, ${short(weight.std)}`], ["range", `${short(weight.min)} to ${short(weight.max)}`]);
    return [element("h4", weight.name), facts(pairs), ...(weight.counts.length > 1 ? [histogram(weight)] : [])];
  }

  const edgeOf = (weight, index) => weight.min + ((weight.max - weight.min) * index) / weight.counts.length;

  function histogram(weight) {
    const picture = document.createElementNS(svg.namespaceURI, "svg");
    const [width, height, most] = [240, 70, Math.max(...weight.counts)];
    picture.setAttribute("viewBox", `0 0 ${width} ${height + 16}`);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", `Histogram from ${short(weight.min)} to ${short(weight.max)}, at most ${most} in a bar`);
    Object.assign(picture.dataset, { width, height: height + 16 });
    const add = (tag, attributes, content = "") => {
      const made = document.createElementNS(svg.namespaceURI, tag);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      made.textContent = content;
      picture.append(made);
    };
    const step = width / weight.counts.length;
    weight.counts.forEach((count, index) => {
      const tall = count && Math.max(1, (height * count) / most);
      add("rect", { class: "bar", x: index * step + 0.5, y: height - tall, width: step - 1, height: tall });
    });
    add("text", { x: 0, y: height + 13 }, short(weight.min));
    add("text", { x: width, y: height + 13, "text-anchor": "end" }, short(weight.max));
    const name = `${weight.name}_histogram`;
    const rows = weight.counts.map((count, index) => [edgeOf(weight, index), edgeOf(weight, index + 1), count]);
    return element("figure", [
      element("figcaption", ["Histogram ", ...buttons(
        ["PNG", `PNG of the histogram of ${weight.name}`, () => saveDrawing(picture, name)],
        ["CSV", `CSV of the histogram of ${weight.name}`, () => saveCsv([["from", "to", "count"], ...rows], name)])]),
      picture]);
  }

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const colours = bytes(data.colours);

  function drawMap(node, image) {
    const map = image.maps[node.tensor];
    const values = new Float32Array(bytes(map.data).buffer);
    const canvas = paint(map, values);
    const label = `Heatmap of ${node.name} on ${image.label}, ${map.width} by ${map.height}, from ${short(map.min)} to ${short(map.max)}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const name = `${node.tensor}_${image.label}`;
    const rows = Array.from({ length: map.height }, (_, y) => [...values.slice(y * map.width, (y + 1) * map.width)]);
    return element("figure", [
      element("figcaption", [`${image.label} · ${short(map.min)} to ${short(map.max)} `, ...buttons(
        ["PNG", `PNG: ${label}`, () => saveCanvas(canvas, name)], ["CSV", `CSV: ${label}`, () => saveCsv(rows, name)])]),
      canvas]);
  }

  // Values are interpolated, not colours: halfway between two colours of a rainbow lies none of its colours.
  function paint(map, values) {
    const side = 240;
    const ratio = side / Math.max(map.width, map.height);
    const [width, height] = [Math.max(8, Math.round(map.width * ratio)), Math.max(8, Math.round(map.height * ratio))];
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const range = map.max - map.min || 1;
    const between = (position, length) => {
      const bounded = Math.min(length - 1, Math.max(0, position));
      const low = Math.min(Math.floor(bounded), Math.max(0, length - 2));
      return [low, Math.min(low + 1, length - 1), bounded - low];
    };
    for (let y = 0; y < height; y++) {
      const [top, bottom, down] = between(((y + 0.5) * map.height) / height - 0.5, map.height);
      for (let x = 0; x < width; x++) {
        const [left, right, across] = between(((x + 0.5) * map.width) / width - 0.5, map.width);
        const upper = values[top * map.width + left] * (1 - across) + values[top * map.width + right] * across;
        const lower = values[bottom * map.width + left] * (1 - across) + values[bottom * map.width + right] * across;
        const share = (upper * (1 - down) + lower * down - map.min) / range;
        const colour = 3 * Math.round(255 * Math.min(1, Math.max(0, share)));
        pixels.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], 4 * (y * width + x));
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  zoom(Math.max(view.clientWidth / full.width, Math.min(0.8, (0.8 * innerHeight) / full.height)));
  view.scrollLeft = 0;
  view.scrollTop = 0;
  document.documentElement.dataset.ready = "true";
})();
