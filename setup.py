"""Longtail: learning from imbalanced data as a Spark-orchestrated pipeline.

`src/longtail/` links to the six code folders of this directory, so that they are installed as one package. The ranges
below begin with the lowest versions that are tested (constraints-lowest.txt); constraints.txt has the newest.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "src/longtail/__init__.py").read_text(), re.MULTILINE)[1]

setup(
    name="longtail",
    version=VERSION,
    description="Learning from long-tailed data: Spark data sets, barrier-stage training, live per-class analytics",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    author="The Longtail developers",
    keywords=["imbalanced learning", "long-tailed recognition", "semi-supervised learning", "Spark", "PyTorch"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={
        "longtail": ["py.typed"],
        "longtail.conf": [
            "*.properties",
            "*.yaml",
            "datasets/*.yaml",
            "experiments/*.yaml",
            "theory_grids/*.yaml",
            "spark-defaults/*",
            "kubernetes/*",
        ],
        "longtail.streaming.dashboard": ["templates/*", "static/*"],
    },
    install_requires=[
        "torch>=2.8",
        "torchvision>=0.23",
        "pyspark>=4.1.4,<5",
        "pandas>=2.2.3",
        "pyarrow>=18.1",
        "fsspec>=2024.10",
        "numpy>=2.0.2",
        "scipy>=1.14.1",
        "scikit-learn>=1.5.2",
        "matplotlib>=3.9.2",
        "pillow>=11.0",
        "tensorboardX>=2.6.2.2",
        "pyyaml>=6.0.2",
        "pydantic>=2.8.2",
        "rich>=13.9",
        "markdown-it-py>=3.0",
        "plotly>=6.0",
        "jinja2>=3.1.4",
        "starlette>=0.41",
        "uvicorn>=0.32",
    ],
    extras_require={
        "connect": ["pyspark[connect]>=4.1.4,<5"],
        "delta": ["deltalake>=1.6.6"],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
        "hdfs": ["hdfs-native>=0.14"],
        "notebook": ["jupyterlab"],
        "onnx": ["onnx>=1.19", "onnxruntime>=1.22", "onnxscript>=0.5"],
        "s3": ["s3fs>=2024.10"],
        "timm": ["timm>=1.0.15"],
        "test": [
            "build",
            "coverage[toml]",
            "deltalake>=1.6.6",
            "flask",
            "flask-cors",
            "hdfs-native>=0.14",
            "hypothesis",
            "ipykernel",
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=0.26",
            "moto[s3]>=5.1",
            "nbclient",
            "onnx>=1.19",
            "onnxruntime>=1.22",
            "onnxscript>=0.5",
            "pandas-stubs",
            "pyspark[connect]>=4.1.4,<5",
            "pyright[nodejs]",
            "pytest",
            "pytest-xdist",
            "ruff",
            "s3fs>=2024.10",
            "selenium",
            "timm>=1.0.15",
            "types-PyYAML",
            "uv",
        ],
    },
    entry_points={"console_scripts": ["longtail = longtail.__main__:main"]},
)
