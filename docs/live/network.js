// Loads ONNX Runtime and the model, both from files beside this one, and asks them.
"use strict";
window.Live = window.Live || {};

(() => {
  const sessions = {};
  // One request at a time: a drawing may go on while an attack computes.
  let last = Promise.resolve();
  const queued = (task) => (last = last.then(task, task));

  // Script elements work without a server, where fetch does not.
  const script = (name) => new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = name;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`${name} is missing or damaged. \`make live\` writes it.`));
    document.head.append(element);
  });

  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

  async function unpacked(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function part(holder, name, file) {
    if (!holder || holder[name] === undefined) throw new Error(`${file} holds no ${name}. \`make live\` writes it anew.`);
    return holder[name];
  }

  Live.load = async () => {
    await Promise.all(["ort.wasm.min.js", "runtime.js", "model.js"].map(script));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await unpacked(part(Live.runtime, "wasm", "runtime.js"));
    const glue = new Blob([part(Live.runtime, "mjs", "runtime.js")], {type: "text/javascript"});
    ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(glue)};
    for (const name of ["model", "gradients"]) {
      sessions[name] = await ort.InferenceSession.create(await unpacked(part(Live.model, name, "model.js")));
    }
    // They are in the sessions now.
    delete Live.runtime.wasm;
    delete Live.model.model;
    delete Live.model.gradients;
    // One that can't answer is found now, not at the first drawing.
    await Live.decide(new Float32Array(Live.SIDE * Live.SIDE));
    return Live.model;
  };

  const image = (pixels) => new ort.Tensor("float32", pixels, [1, Live.SIDE, Live.SIDE, 1]);
  const input = (session) => session.inputNames.find((name) => !name.startsWith("to_"));

  // What the model says of a picture. `label` is -1 for "none of these"; `reason` as of tfdefense: 0 accepted, 1 suspicious,
  // 2 invalid input, 3 broken model.
  Live.decide = async (pixels) => {
    const session = sessions.model;
    if (!session) throw new Error("The model is not loaded.");
    if (pixels.length !== Live.SIDE * Live.SIDE) throw new Error(`Expected 784 pixels. Received ${pixels.length}.`);
    const found = await queued(() => session.run({[input(session)]: image(pixels)}));
    const scores = found.scores.data, best = Math.max(...scores);
    const sum = scores.reduce((total, score) => total + Math.exp(score - best), 0);
    const answer = {
      label: Number(found.label.data[0]), reason: Number(found.reason.data[0]), suspicion: found.suspicion.data[0],
      scores: Array.from(scores), nearest: scores.indexOf(best), confidence: 1 / sum,
    };
    // The page keeps to it even if the model did not: what is no number gets no class.
    const sound = pixels.every((value) => value >= 0 && value <= 1);
    if (!sound) Object.assign(answer, {label: -1, reason: 2, suspicion: Infinity, nearest: -1, confidence: NaN});
    else if (!Number.isFinite(answer.confidence)) Object.assign(answer, {label: -1, reason: 3, suspicion: Infinity, nearest: -1});
    return answer;
  };

  // The derivative with respect to the pixels of what has these derivatives with respect to scores and suspicion.
  Live.slope = async (pixels, toScores, toSuspicion) => {
    const session = sessions.gradients;
    const found = await queued(() => session.run({
      [input(session)]: image(pixels),
      to_scores: new ort.Tensor("float32", Float32Array.from(toScores), [1, toScores.length]),
      to_suspicion: new ort.Tensor("float32", Float32Array.of(toSuspicion), [1]),
    }));
    return found.gradient.data;
  };
})();
