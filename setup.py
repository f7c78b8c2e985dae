"""Longtail: learning from imbalanced data as a Spark-orchestrated pipeline.

Versions are pinned because three of them must move together: torchvision is
built against one torch, and the Spark behaviour that the barrier stage relies
on was measured with one pyspark (which in turn wants pandas below 3).
"""

from setuptools import setup

setup(
    name="longtail",
    version="0.1.0",
    description="Learning from long-tailed data: Spark data sets, barrier-stage training, live per-class analytics",
    python_requires=">=3.11",
    packages=[
        "conf",
        "conf.options",
        "data",
        "data.sources",
        "models",
        "training",
        "training.semi",
        "training.theory",
        "streaming",
        "streaming.dashboard",
        "spark_jobs",
    ],
    package_data={
        "conf": ["*.properties", "*.yaml", "datasets/*.yaml", "spark-defaults/*", "experiments/*.yaml"],
        "streaming.dashboard": ["templates/*", "static/*"],
    },
    install_requires=[
        "torch==2.15.0",
        "torchvision==0.29.2",
        "pyspark==4.3.0",
        "pandas==2.3.3",
        "pyarrow==26.0.1",
        "fsspec==2026.9.0",
        "numpy==2.4.6",
        "scipy==1.17.1",
        "scikit-learn==1.9.1",
        "matplotlib==3.11.2",
        "pillow==13.0.0",
        "tensorboardX==2.6.5",
        "pyyaml==6.0.4",
        "pydantic==2.14.4",
        "rich==15.0.0",
        "markdown-it-py==4.3.0",
        "plotly==7.1.0",
        "jinja2==3.1.6",
        "starlette==1.10.0",
        "uvicorn==0.54.0",
    ],
    extras_require={
        "test": [
            "pytest==9.2.0",
            "hypothesis==6.170.17",
            "nbclient==0.11.0",
            "ipykernel==7.4.0",
            "ruff==0.17.6",
            "deltalake==1.6.6",
            "selenium==4.51.0",
        ],
        "delta": ["deltalake==1.6.6"],
        "notebook": ["jupyterlab"],
    },
    entry_points={"console_scripts": ["longtail = spark_jobs.cli:main"]},
)
