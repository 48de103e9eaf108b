"use strict";
(() => {
  const tip = document.getElementById("tip");
  const showTip = (event) => {
    const from = event.target.closest && event.target.closest("[data-tip]");
    tip.hidden = !from;
    if (!from) return;
    tip.textContent = from.dataset.tip;
    const width = tip.offsetWidth;
    tip.style.left = Math.max(8, Math.min(innerWidth - width - 8, event.clientX - width / 2)) + "px";
    tip.style.top = Math.max(8, event.clientY - tip.offsetHeight - 14) + "px";
  };
  document.addEventListener("pointermove", showTip);
  document.addEventListener("pointerdown", showTip);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  const data = JSON.parse(document.getElementById("map-data").textContent);
  const canvas = document.getElementById("map-canvas");
  const colourBy = document.getElementById("map-colour");
  const pen = canvas.getContext("2d");
  const shown = data.groups.map(() => true);
  const TEN = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#8a8f94"];
  let turn = 0.7, tilt = 0.35, zoom = 1, held = null;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const className = (y) => (y < 0 ? "none of them" : data.classes[y] || String(y));
  const outcome = (group, i) => {
    const label = group.label[i];
    return label === -1 ? "rejected" : label === group.y[i] ? "right" : "wrong";
  };
  const colourOf = (palette, group, g, i) => {
    if (colourBy.value === "outcome") return palette[outcome(group, i)];
    if (colourBy.value === "group") return palette.kinds[g % 8];
    return group.y[i] < 0 ? palette.soft : TEN[group.y[i] % 10];
  };
  const readPalette = () => ({
    right: css("--right"), rejected: css("--rejected"), wrong: css("--wrong"), soft: css("--soft"), line: css("--line"), ink: css("--ink"),
    kinds: Array.from({ length: 8 }, (_, k) => css("--k" + k)),
  });

  const SHAPES = [
    (x, y, r) => pen.arc(x, y, r, 0, 7),
    (x, y, r) => { pen.moveTo(x, y - 1.5 * r); pen.lineTo(x + 1.4 * r, y + r); pen.lineTo(x - 1.4 * r, y + r); pen.closePath(); },
    (x, y, r) => { pen.moveTo(x, y - 1.5 * r); pen.lineTo(x + 1.5 * r, y); pen.lineTo(x, y + 1.5 * r); pen.lineTo(x - 1.5 * r, y); pen.closePath(); },
    (x, y, r) => pen.rect(x - r, y - r, 2 * r, 2 * r),
    (x, y, r) => { const a = 0.45 * r, b = 1.5 * r; pen.rect(x - b, y - a, 2 * b, 2 * a); pen.rect(x - a, y - b, 2 * a, 2 * b); },
    (x, y, r) => pen.rect(x - 1.6 * r, y - 0.6 * r, 3.2 * r, 1.2 * r),
  ];

  function project([a, b, c]) {
    const x = a * Math.cos(turn) + c * Math.sin(turn), z = c * Math.cos(turn) - a * Math.sin(turn);
    return [x, b * Math.cos(tilt) - z * Math.sin(tilt), b * Math.sin(tilt) + z * Math.cos(tilt)];
  }

  function draw() {
    const palette = readPalette(), ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const scale = 0.5 * Math.min(width, height) * zoom;
    const at = (point) => {
      const [x, y, z] = project(point), near = 1 / (1.9 - 0.35 * z) * 1.9;
      return [width / 2 + scale * x * near, height / 2 - scale * y * near, z];
    };
    pen.strokeStyle = palette.line;
    for (const axis of [[1, 0, 0], [0, 1, 0], [0, 0, 1]]) {
      const from = at(axis.map((v) => -v)), to = at(axis);
      pen.beginPath(); pen.moveTo(from[0], from[1]); pen.lineTo(to[0], to[1]); pen.stroke();
    }
    const dots = [];
    data.groups.forEach((group, g) => {
      if (shown[g]) group.points.forEach((point, i) => dots.push([...at(point), colourOf(palette, group, g, i), g]));
    });
    dots.sort((a, b) => a[2] - b[2]);
    for (const [x, y, z, colour, g] of dots) {
      pen.globalAlpha = Math.max(0.3, Math.min(0.95, 0.68 + 0.25 * z));
      pen.fillStyle = colour;
      pen.beginPath();
      SHAPES[g % SHAPES.length](x, y, 3 + 0.8 * z);
      pen.fill();
    }
    pen.globalAlpha = 1;
    canvas.dataset.turn = turn.toFixed(3);
    legend(palette);
  }

  function legend(palette) {
    const entries = { outcome: ["right", "rejected", "wrong"].map((name) => [palette[name], name]), group: [], class: [] };
    entries.group = data.groups.map((group, g) => [palette.kinds[g % 8], group.what]);
    const classes = [...new Set(data.groups.flatMap((group) => group.y))].sort((a, b) => a - b);
    entries.class = classes.map((y) => [y < 0 ? palette.soft : TEN[y % 10], className(y)]);
    document.getElementById("map-legend").replaceChildren(...entries[colourBy.value].map(([colour, name]) => {
      const span = document.createElement("span"), dot = document.createElement("i");
      dot.className = "dot";
      dot.style.background = colour;
      span.append(dot, name);
      return span;
    }));
  }

  const MARKS = ["●", "▲", "◆", "■", "✚", "▬"];
  document.getElementById("map-groups").append(...data.groups.map((group, g) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { shown[g] = box.checked; draw(); });
    label.append(box, MARKS[g % MARKS.length] + " " + group.what);
    return label;
  }));

  canvas.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    turn += (event.clientX - held[0]) * 0.01;
    tilt = Math.max(-1.5, Math.min(1.5, tilt + (event.clientY - held[1]) * 0.01));
    held = [event.clientX, event.clientY];
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom = Math.max(0.5, Math.min(4, zoom * Math.exp(-event.deltaY * 0.01)));
    draw();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (!step) return;
    event.preventDefault();
    turn += step[0];
    tilt = Math.max(-1.5, Math.min(1.5, tilt + step[1]));
    draw();
  });
  colourBy.addEventListener("change", draw);
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
