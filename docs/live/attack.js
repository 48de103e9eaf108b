// Projected gradient descent in linf, against class and rejection at once: `td.attacks.PGD` with the objectives of the same names.
"use strict";
window.Live = window.Live || {};

(() => {
  const STEPS = 40, STARTS = 4;

  const logSumExp = (values) => {
    const best = Math.max(...values);
    return best === -Infinity ? best : best + Math.log(values.reduce((total, value) => total + Math.exp(value - best), 0));
  };

  // Two objectives, to be made small: their derivatives with respect to scores and suspicion. `own` is the class to leave; -1: of a
  // picture that is rejected, which has none to leave. Rejection takes part as one more class: suspicion plus the best score.
  Live.objectives = {
    "log-sum-exp": (scores, suspicion, own) => {
      const others = logSumExp(scores.filter((_, i) => i !== own));
      const best = scores.indexOf(Math.max(...scores));
      const terms = [own < 0 ? -Infinity : scores[own] - others, suspicion + scores[best] - others];
      const value = logSumExp(terms);
      // An infinite suspicion outweighs everything.
      const [leaving, accepting] = value === Infinity ? [0, 1] : terms.map((term) => Math.exp(term - value));
      const toScores = scores.map((score, i) => (i === own ? leaving : -(leaving + accepting) * Math.exp(score - others)));
      toScores[best] += accepting;
      return {value, toScores, toSuspicion: accepting};
    },
    "maximum confidence": (scores, suspicion, own) => {
      const other = scores.indexOf(Math.max(...scores.filter((_, i) => i !== own)));
      const margin = own < 0 ? -Infinity : scores[own] - scores[other];
      const accepting = suspicion + Math.max(margin, 0) > margin;
      const toScores = scores.map(() => 0);
      if (margin > 0 || !accepting) { toScores[own] = 1; toScores[other] = -1; }
      return {value: accepting ? suspicion + Math.max(margin, 0) : margin, toScores, toSuspicion: accepting ? 1 : 0};
    },
  };

  const succeeds = (answer, own) => answer.label >= 0 && answer.label !== own;

  // Searches until a picture is accepted as another class, or until its steps are used up; then it gives the one that came closest.
  Live.attack = async (pixels, size, {own, tell = () => {}, stopped = () => false, seed = 1} = {}) => {
    const random = Live.random(seed);
    const low = pixels.map((value) => Math.max(0, value - size)), high = pixels.map((value) => Math.min(1, value + size));
    const inside = (value, i) => Math.min(Math.max(value, low[i]), high[i]);
    const objectives = Object.values(Live.objectives);
    let closest = null, steps = 0;
    for (let start = 0; start < STARTS; start++) {
      // From the picture by both, then from noise around it by both.
      const objective = objectives[start % objectives.length];
      let now = start < objectives.length ? Float32Array.from(pixels) : pixels.map((value, i) => inside(value + size * (2 * random() - 1), i));
      for (let step = 0; step <= STEPS; step++) {
        const answer = await Live.decide(now);
        const {value, toScores, toSuspicion} = objective(answer.scores, answer.suspicion, own);
        // In one unit: the suspicion of what is another class already comes before what is not.
        const lag = own < 0 || answer.nearest !== own ? answer.suspicion : Infinity;
        if (!closest || lag < closest.lag || (lag === closest.lag && value < closest.value)) closest = {pixels: now, answer, lag, value};
        if (succeeds(answer, own)) return {pixels: now, answer, steps, success: true};
        if (step === STEPS || size === 0) break;
        const slope = await Live.slope(now, toScores, toSuspicion);
        const rate = 2.5 * size / STEPS * (1 - step / STEPS) * 2; // smaller and smaller, and as far in all
        now = now.map((pixel, i) => inside(pixel - rate * (Math.sign(slope[i]) || 0), i));
        steps++;
        tell(steps / (STEPS * STARTS));
        if (steps % 3 === 0) await new Promise((resolve) => setTimeout(resolve)); // so that the page stays alive
        if (stopped()) return null;
      }
      if (size === 0) break;
    }
    return {pixels: closest.pixels, answer: closest.answer, steps, success: false};
  };
})();
