"""Classifiers that can say "none of these", and attacks that know it.

Names are loaded when they are first used, so that `import tfdefense` does not load TensorFlow.
"""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from tfdefense._renamed import RenamedModules, renamed_names

if TYPE_CHECKING:
    # For editors and type checkers: what is loaded when it is used.
    from tfdefense import attacks as attacks
    from tfdefense import calibration as calibration
    from tfdefense import callbacks as callbacks
    from tfdefense import certificates as certificates
    from tfdefense import comparison as comparison
    from tfdefense import conformal as conformal
    from tfdefense import contract as contract
    from tfdefense import data as data
    from tfdefense import defenses as defenses
    from tfdefense import export as export
    from tfdefense import layers as layers
    from tfdefense import losses as losses
    from tfdefense import metrics as metrics
    from tfdefense import monitoring as monitoring
    from tfdefense import plots as plots
    from tfdefense import prediction as prediction
    from tfdefense import reporting as reporting
    from tfdefense import trainers as trainers
    from tfdefense import view as view
    from tfdefense import zoo as zoo
    from tfdefense.attacks.surrogate import differentiable as differentiable
    from tfdefense.calibration import adapt as adapt
    from tfdefense.calibration import calibrate as calibrate
    from tfdefense.certificates import certify as certify
    from tfdefense.certificates import certify_ood as certify_ood
    from tfdefense.comparison import compare as compare
    from tfdefense.contract import base_model as base_model
    from tfdefense.contract import defend as defend
    from tfdefense.contract import load as load
    from tfdefense.defenses import AdversaryDetector as AdversaryDetector
    from tfdefense.defenses import AllOf as AllOf
    from tfdefense.defenses import AnyOf as AnyOf
    from tfdefense.defenses import ConsistencyRejection as ConsistencyRejection
    from tfdefense.defenses import DeepNeuralRejection as DeepNeuralRejection
    from tfdefense.defenses import DensityDefense as DensityDefense
    from tfdefense.defenses import DustbinDefense as DustbinDefense
    from tfdefense.defenses import JointDiscriminator as JointDiscriminator
    from tfdefense.defenses import NeuralRejection as NeuralRejection
    from tfdefense.defenses import PerClass as PerClass
    from tfdefense.defenses import RadiusRejection as RadiusRejection
    from tfdefense.defenses import RectifiedRejection as RectifiedRejection
    from tfdefense.defenses import SafetyNet as SafetyNet
    from tfdefense.defenses import Smoothed as Smoothed
    from tfdefense.defenses import TemperatureScaled as TemperatureScaled
    from tfdefense.defenses import ThresholdDefense as ThresholdDefense
    from tfdefense.defenses import capping_error as capping_error
    from tfdefense.defenses import compress as compress
    from tfdefense.defenses import graft_dustbin as graft_dustbin
    from tfdefense.defenses import graft_head as graft_head
    from tfdefense.metrics import evaluate as evaluate
    from tfdefense.monitoring import Monitor as Monitor
    from tfdefense.prediction import predict as predict
    from tfdefense.reporting import report as report
    from tfdefense.trainers import AdversarialTraining as AdversarialTraining
    from tfdefense.trainers import ConfidenceCalibratedTraining as ConfidenceCalibratedTraining
    from tfdefense.trainers import DetectorTraining as DetectorTraining
    from tfdefense.trainers import DiscriminatorTraining as DiscriminatorTraining
    from tfdefense.trainers import RectifiedTraining as RectifiedTraining
    from tfdefense.trainers import adversarial_pairs as adversarial_pairs

__version__ = "0.1.0"

_SUBMODULES = {
    "attacks",
    "calibration",
    "callbacks",
    "certificates",
    "comparison",
    "conformal",
    "contract",
    "data",
    "defenses",
    "export",
    "layers",
    "losses",
    "metrics",
    "monitoring",
    "plots",
    "prediction",
    "reporting",
    "trainers",
    "view",
    "zoo",
}
_NAMES = {
    "adapt": "calibration",
    "AdversaryDetector": "defenses",
    "AdversarialTraining": "trainers",
    "base_model": "contract",
    "calibrate": "calibration",
    "capping_error": "defenses",
    "certify": "certificates",
    "certify_ood": "certificates",
    "compare": "comparison",
    "compress": "defenses",
    "defend": "contract",
    "differentiable": "attacks.surrogate",
    "AllOf": "defenses",
    "AnyOf": "defenses",
    "ConsistencyRejection": "defenses",
    "DensityDefense": "defenses",
    "DeepNeuralRejection": "defenses",
    "ConfidenceCalibratedTraining": "trainers",
    "DetectorTraining": "trainers",
    "DiscriminatorTraining": "trainers",
    "RectifiedTraining": "trainers",
    "JointDiscriminator": "defenses",
    "NeuralRejection": "defenses",
    "DustbinDefense": "defenses",
    "PerClass": "defenses",
    "RadiusRejection": "defenses",
    "RectifiedRejection": "defenses",
    "SafetyNet": "defenses",
    "Smoothed": "defenses",
    "TemperatureScaled": "defenses",
    "ThresholdDefense": "defenses",
    "report": "reporting",
    "adversarial_pairs": "trainers",
    "evaluate": "metrics",
    "graft_dustbin": "defenses",
    "graft_head": "defenses",
    "load": "contract",
    "Monitor": "monitoring",
    "predict": "prediction",
}

__all__ = sorted(_SUBMODULES | set(_NAMES))

_MOVED = {
    "adversarial": "trainers.adversarial",
    "decisions": "view",
    "defended_model": "contract",
    "detection": "trainers.detector",
    "surrogate": "attacks.surrogate",
}
_old_name = renamed_names(
    __name__, twins="adversarial_pairs", smoothed="differentiable", OutDistribution="DustbinDefense", defended="contract", **_MOVED
)
sys.meta_path.append(RenamedModules({f"{__name__}.{old}": f"{__name__}.{new}" for old, new in _MOVED.items()}))


if not TYPE_CHECKING:  # A checker takes a module with this function for one that has any name.

    def __getattr__(name):
        if name in _SUBMODULES:
            return importlib.import_module(f"tfdefense.{name}")
        if name in _NAMES:
            return getattr(importlib.import_module(f"tfdefense.{_NAMES[name]}"), name)
        return _old_name(name)


def __dir__():
    return __all__


class _AfterKeras:
    """Makes the layers known to `keras.models.load_model` as soon as Keras is loaded, whoever loads it."""

    asking = False

    @staticmethod
    def register():
        for name in ("layers", "contract"):
            importlib.import_module(f"tfdefense.{name}")

    def find_spec(self, name, path=None, target=None):
        if name != "keras" or self.asking:
            return None
        self.asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asking = False
        if spec is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module):
                # Only now: others look for Keras without loading it.
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                execute(module)
                self.register()

            loader.exec_module = exec_module
        return spec


if "keras" in sys.modules:
    _AfterKeras.register()
else:
    sys.meta_path.insert(0, _AfterKeras())
