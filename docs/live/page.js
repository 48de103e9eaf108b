// What a person does on the page, and what it says.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const paper = $("paper"), pen = paper.getContext("2d", {willReadFrequently: true});
  const WIDTH = 22; // of the pen
  const HALF = 4; // the suspicion half-way from the threshold to an end of the meter
  // What is shown now; a test reads it.
  const shown = (Live.shown = {pixels: null, answer: null, attacked: null, busy: 0});
  let ready = false, drawing = null, turn = 0;

  const levels = (size) => Math.round(size * 255);
  const percent = (share) => (share > 0.995 && share < 1 ? "more than 99 %" : `${Math.round(100 * share)} %`);
  const name = (label) => Live.model.classes[label];

  function words(answer) {
    if (answer.reason === 2) return {title: "No answer", sure: "Invalid input.", why: "The picture holds values that are no numbers, or out of range. The model rejects it unseen."};
    if (answer.reason === 3) return {title: "No answer", sure: "The model is broken.", why: "It gave a score that is no number, so nothing is accepted."};
    const number = Number.isFinite(answer.suspicion) ? answer.suspicion.toFixed(2) : "infinite";
    const believed = `${name(answer.nearest)} with a confidence of ${percent(answer.confidence)}`;
    if (answer.label >= 0) {
      return {title: name(answer.label), sure: `Confidence ${percent(answer.confidence)}.`, why: `Suspicion ${number}: not above 0, the threshold, so it is accepted.`};
    }
    return {title: "None of these", sure: `Without the defense: ${believed}.`, why: `Suspicion ${number}: above 0, the threshold, so it is rejected.`};
  }

  function tellAnswer(answer) {
    const {title, sure, why} = words(answer), kind = answer.label >= 0 ? "accepted" : "rejected";
    $("class").textContent = title;
    $("class").className = `class ${kind}`;
    $("sure").textContent = sure;
    $("why").textContent = why;
    // The ends of the meter stand for infinity.
    const part = Number.isFinite(answer.suspicion) ? answer.suspicion / (Math.abs(answer.suspicion) + HALF) : 1;
    const level = $("level");
    level.className = kind;
    level.style.left = `${50 + Math.min(0, 50 * part)}%`;
    level.style.width = `${50 * Math.abs(part)}%`;
  }

  function forget(text = "Draw something") {
    turn++;
    Object.assign(shown, {pixels: null, answer: null, attacked: null});
    $("class").textContent = text;
    $("class").className = "class";
    $("sure").textContent = $("why").textContent = "";
    $("level").style.width = "0";
    $("attacked").hidden = true;
    $("attack").disabled = true;
    Live.paint($("seen"), new Float32Array(Live.SIDE * Live.SIDE));
  }

  // Asks the model; an answer that comes after a newer question is dropped.
  Live.show = async (pixels) => {
    if (!ready) return;
    if (!pixels) return forget();
    const mine = ++turn;
    shown.busy++;
    try {
      const answer = await Live.decide(pixels);
      if (mine !== turn) return;
      Object.assign(shown, {pixels, answer, attacked: null});
      Live.paint($("seen"), pixels);
      tellAnswer(answer);
      $("attacked").hidden = true;
      $("attack").disabled = answer.reason > 1;
    } catch (error) {
      if (mine === turn) { forget("No answer"); fail(error); }
    } finally {
      shown.busy--;
    }
  };

  async function attack() {
    const {pixels, answer} = shown;
    if (!pixels || answer.reason > 1) return;
    const size = Number($("size").value), mine = ++turn, button = $("attack");
    shown.busy++;
    button.disabled = true;
    try {
      const found = await Live.attack(pixels, size, {
        own: answer.label, stopped: () => mine !== turn, tell: (part) => { button.textContent = `Searching, ${Math.round(100 * part)} %`; },
      });
      if (found && mine === turn) tellAttack(pixels, answer, size, found);
    } catch (error) {
      fail(error);
    } finally {
      button.textContent = "Attack";
      button.disabled = !shown.pixels || shown.answer.reason > 1;
      shown.busy--;
    }
  }

  function tellAttack(pixels, answer, size, found) {
    const change = found.pixels.map((value, i) => value - pixels[i]);
    const linf = change.reduce((most, value) => Math.max(most, Math.abs(value)), 0), l2 = Math.hypot(...change);
    shown.attacked = {...found, size, linf, l2};
    Live.paint($("before"), pixels);
    Live.paint($("change"), change.map((value) => 0.5 + 0.5 * value / Math.max(size, 1e-9)));
    Live.paint($("after"), found.pixels);
    $("change-text").textContent = size ? `change, ${(0.5 / size).toFixed(1)} times as strong` : "no change";
    const after = words(found.answer), from = answer.label >= 0 ? name(answer.label) : "none of these";
    $("outcome").textContent = found.success ? `The attack succeeded: ${from} became ${after.title}.` : "The attack found nothing at this size.";
    $("outcome").className = found.success ? "rejected" : "accepted";
    $("found").textContent = `Largest change ${linf.toFixed(3)} (${levels(linf)} of 255 grey levels), l2 distance ${l2.toFixed(2)}, ${found.steps} steps. `
      + `${found.success ? "Now" : "The closest it came"}: ${after.title}. ${after.sure} ${after.why}`;
    $("attacked").hidden = false;
  }

  function sizeText() {
    const size = Number($("size").value);
    $("size-text").textContent = `${size.toFixed(2)} = ${levels(size)} of 255 grey levels`;
  }

  function fail(error) {
    $("state").textContent = `The model failed, so there are no answers: ${error.message || error}`;
    $("state").className = "failed";
  }

  function clear() {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, paper.width, paper.height);
    pen.strokeStyle = "#fff";
    pen.lineWidth = WIDTH;
    pen.lineCap = pen.lineJoin = "round";
  }

  function line(points) {
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (points.length === 1) pen.lineTo(points[0][0], points[0][1]);
    pen.stroke();
  }

  const place = (event) => {
    const box = paper.getBoundingClientRect();
    return [(event.clientX - box.left) * paper.width / box.width, (event.clientY - box.top) * paper.height / box.height];
  };

  paper.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    paper.setPointerCapture(event.pointerId);
    drawing = [place(event)];
    line(drawing);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    drawing.push(place(event));
    line(drawing.slice(-2));
    if (!shown.busy) Live.show(Live.fromDrawing(paper));
  });
  for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, () => {
    if (drawing) Live.show(Live.fromDrawing(paper));
    drawing = null;
  });

  const next = {};
  for (const kind of Object.keys(Live.strokes)) $(kind).addEventListener("click", () => {
    const all = Object.values(Live.strokes[kind]);
    next[kind] = ((next[kind] ?? 3) + 1) % all.length;
    clear();
    all[next[kind]].forEach((stroke) => line(stroke.map(([x, y]) => [70 + 140 * x, 45 + 190 * y])));
    Live.show(Live.fromDrawing(paper));
  });
  // What comes as pixels is shown on the paper as well, and drawing goes on from there.
  function put(pixels) {
    const small = document.createElement("canvas");
    small.width = small.height = Live.SIDE;
    Live.paint(small, pixels);
    clear();
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, paper.width, paper.height);
    return Live.show(pixels);
  }
  let seed = 0;
  $("noise").addEventListener("click", () => {
    const random = Live.random(seed++);
    put(Float32Array.from({length: Live.SIDE * Live.SIDE}, () => Math.round(255 * random()) / 255));
  });
  $("clear").addEventListener("click", () => { clear(); forget(); });
  $("size").addEventListener("input", sizeText);
  $("size").addEventListener("change", () => { if (shown.attacked) attack(); });
  $("attack").addEventListener("click", attack);

  async function open(file) {
    try {
      const bitmap = await createImageBitmap(file);
      const pixels = Live.fromPicture(bitmap, bitmap.width, bitmap.height);
      if (pixels) await put(pixels); else forget("Nothing to be seen");
    } catch {
      forget("No picture");
      $("why").textContent = `${file.name || "This"} can't be read as a picture.`;
    }
  }
  $("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });

  clear();
  sizeText();
  forget("Loading");
  Live.load().then((model) => {
    ready = true;
    $("model-name").textContent = model.name;
    $("about").textContent = model.about;
    $("state").textContent = "";
    forget();
    Live.show(Live.fromDrawing(paper)); // drawn while it loaded
  }).catch((error) => { forget("No answer"); fail(error); });
})();
