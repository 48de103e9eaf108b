"""What rejection may cost: samples that an attacker gets rejected, the stratified error, and what the claim would imply."""

import numpy as np

from tfdefense import metrics
from tfdefense.attacks import BPDA, ForcedRejection, MinimumNorm
from tfdefense.attacks.surrogate import has_steps

# Shares of the compared size within which a rejection counts as an error.
ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def search(view, norm, steps, seed=0, starts=("sample", "random")):
    """The search for the nearest rejected point, on the surrogate where the model has no gradient."""
    attack = MinimumNorm(norm, steps=steps, starts=starts, seed=seed)
    return ForcedRejection(BPDA(attack) if view.is_keras and has_steps(view.model) else attack)


def force(protocol, norm):
    """How far each sample is from the nearest point that is rejected."""
    attack = search(protocol.view, norm, protocol.plan.steps, protocol.seed)
    result = protocol.run_attack(attack, {"name": "forced rejection", "knowledge": "adaptive", "norm": norm, "size": None})
    if result is not None:
        protocol.forced[norm] = np.where(result.success, result.distance, np.inf)


def conclude(protocol):
    """Curves from what was found, once all attacks have run."""
    plan, findings, found = protocol.plan, protocol.findings, protocol.forced
    low, high = protocol.view.bounds
    findings["cost"] = []
    for norm in plan.norms:
        size, right = plan.compared[norm], protocol.own_right
        if norm not in found or not right.any():
            continue
        # Little is enough to be rejected: sizes below the smallest of the other curves count.
        sizes = [*(plan.sizes(norm)[0] * share for share in (0.1, 0.25, 0.5)), *plan.sizes(norm)]
        share = float((right & ~protocol.evidence.succeeded(norm, size)).mean())
        claim = metrics.plausibility(protocol.images.name, norm, size, share, high - low)
        findings["cost"].append(
            {
                "norm": norm,
                "size": size,
                "sizes": sizes,
                "forced": metrics.forced_rejection(found[norm], right, sizes).tolist(),
                "alphas": list(ALPHAS),
                "stratified": metrics.stratified_error(protocol.evidence.nearest[norm], found[norm], size, ALPHAS).tolist(),
                "claim": claim.line,
                "plausible": claim.plausible,
            }
        )
