from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="lesion_d2",
    version="0.1.0",
    description="Mask R-CNN for ISIC 2018 lesion boundary segmentation, on Detectron2",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["lesion_d2", "lesion_d2.*"]),
    package_data={
        "lesion_d2": ["pretrained.onnx"],
        "lesion_d2.report": ["page.*"],
        "lesion_d2.web": ["static/*"],
    },
    python_requires=">=3.10",
    # What outlining needs; onnx, or train and Detectron2, compute the network: see docs/install.md.
    install_requires=[
        "filelock",
        "numpy>=2.0",
        "opencv-python-headless>=4.12",  # before: CVE-2025-53644
        "Pillow>=11.3",  # the first with AVIF
        "pycocotools>=2.0.8",
        "simplejpeg>=1.8",
        "tqdm",
        "yacs>=0.1.8",
    ],
    extras_require={
        "onnx": ["onnxruntime>=1.20"],  # computes .onnx files, as that of the package
        "train": [
            "contourpy",
            "httpx2>=2",
            "jinja2>=3",
            "kornia-rs>=0.2",
            "matplotlib>=3.8",
            "safetensors>=0.4.3",
            "scipy>=1.15",
            "tabulate",
            "timm>=1.0",
            "torch>=2.11",
            "torchvision",
            # What Detectron2's Python code needs; it is not on the package index under its name.
            "black",
            "cloudpickle",
            "fvcore>=0.1.5",
            "hydra-core>=1.1",
            "iopath>=0.1.9,<0.1.11",
            "omegaconf>=2.1,<2.4",
            "packaging",
            "setuptools<81",  # detectron2.model_zoo imports pkg_resources
            "tensorboard",
            "termcolor>=1.1",
        ],
        "formats": ["pillow-heif", "pydicom>=3"],  # HEIC and DICOM
        "unet": ["segmentation-models-pytorch>=0.5"],  # configs/isic_unet_cpu.yaml
        "web": ["fastapi", "fastapi-offline", "python-multipart", "uvicorn"],  # tools/serve.py
        "dev": [
            "axe-playwright-python",
            "fastapi",
            "fastapi-offline",
            "httpx2",
            "hypothesis",
            "isic-challenge-scoring",
            "mypy",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "onnxscript>=0.5",  # tools/export.py --output *.onnx
            "pillow-heif",
            "playwright",
            "pydicom>=3",
            "pytest",
            "python-multipart",
            "ruff",
            "segmentation-models-pytorch>=0.5",
            "shapely>=2",
            "supervision>=0.31",  # reads labelme's files
            "uvicorn",
        ],
    },
)
