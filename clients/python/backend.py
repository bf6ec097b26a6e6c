"""Builds the wheel with the standard library alone (PEP 517, PEP 427), so that nothing has to be fetched for it."""

import base64
import hashlib
import pathlib
import re
import zipfile

ROOT = pathlib.Path(__file__).parent


def _setting(name):
    return re.search(rf'^{name} = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M).group(1)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name, version = _setting("name").replace("-", "_"), _setting("version")
    info = f"{name}-{version}.dist-info"
    files = {str(p.relative_to(ROOT)): p.read_bytes() for p in sorted((ROOT / name).iterdir()) if p.suffix == ".py" or p.name == "py.typed"}
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {_setting('name')}\nVersion: {version}\nSummary: {_setting('description')}\nLicense: MIT\n"
        f"Requires-Python: {_setting('requires-python')}\nDescription-Content-Type: text/markdown\n\n{(ROOT / 'README.md').read_text('utf-8')}"
    ).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: mathub-webhooks\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return wheel
