"""Maps the folders at the top of the repository to their import names; everything else is in setup.cfg."""

from setuptools import find_packages, setup

FOLDERS = {
    "callstream": "callstream",
    "callstream.streams": "streams",
    "callstream.agents": "agents",
    "callstream.tables": "tables",
}

setup(
    package_dir=FOLDERS,
    packages=[
        name
        for root, folder in FOLDERS.items()
        for name in (root, *(f"{root}.{inner}" for inner in find_packages(folder)))
    ],
)
