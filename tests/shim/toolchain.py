"""From CUDA C source to a shared library."""

import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

_HERE = pathlib.Path(__file__).parent
_HEADERS = [_HERE / name for name in ("cuda_shim.h", "cuda_fp16.h", "cuda_bf16.h")]

# Compiling takes longer than running, so -O0. No unique symbols: statics of equal name in two
# libraries must stay two.
_FLAGS = ["-O0", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-ffp-contract=off"]
_FLAGS += ["-w", "-fsanitize=undefined", "-fno-sanitize-recover=all"]

_EXPORT = """
extern "C" __attribute__((visibility("default")))
const char* launch_{0}(const unsigned* sizes, int order, size_t shared_bytes, void** arguments) {{
  return shim::launch(&{0}, sizes, order, shared_bytes, arguments);
}}
extern "C" __attribute__((visibility("default"))) const char* signature_{0}() {{
  return shim::signature(&{0});
}}
extern "C" __attribute__((visibility("default"))) unsigned bound_{0}() {{
  return shim::bound({1});
}}
"""

# What __launch_bounds__ leaves, with one level of parentheses inside
_BOUNDS = r"SHIM_BOUNDS\s*\(((?:[^()]|\([^()]*\))*)\)"
_ENTRY = re.compile(
    rf'extern\s+"C"\s+SHIM_KERNEL\s+(?:{_BOUNDS}\s*)?void\s+(?:{_BOUNDS}\s*)?(\w+)\s*\('
)


class CompileError(RuntimeError):
    """What g++ said about a source."""


def available():
    """Return True, or the reason why kernels cannot be compiled here."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    return True if shutil.which("g++") else "needs g++"


@functools.cache
def _compiler_version():
    return subprocess.run(["g++", "--version"], check=True, capture_output=True, text=True).stdout


def _cache_folder():
    folder = pathlib.Path(tempfile.gettempdir(), f"xcnn-shim-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(
            f"{folder} must belong to this user only: libraries are loaded from it"
        )
    return folder


def _flags(options):
    """Return g++'s flags for CuPy's ``options``; those that only NVRTC knows are left out."""
    own = [option for option in options if re.match(r"-D|-U|--?std=", option)]
    own = [option.replace("--std=", "-std=") for option in own]
    flags = ["-std=c++17", *_FLAGS, f"-I{_HERE}", *own]
    if os.environ.get("XCNN_SHIM_ASAN") == "1":
        flags.append("-fsanitize=address")
    return flags


def _gcc(arguments, text=None):
    """Run g++, on ``text`` if it is given, as from standard input; return what it writes."""
    command = ["g++", *arguments, *(["-"] if text is not None else [])]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"g++ {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def _make(target, arguments, text=None):
    """Let g++ write ``target``.

    Processes may do so at once: each writes its own and the last one stays.
    """
    handle, scratch = tempfile.mkstemp(suffix=target.suffix, dir=target.parent)
    os.close(handle)
    try:
        _gcc([*arguments, "-o", scratch], text)
        os.replace(scratch, target)
    finally:
        pathlib.Path(scratch).unlink(missing_ok=True)


def _key(parts):
    text = "\0".join([*parts, *(header.read_text() for header in _HEADERS), _compiler_version()])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _precompiled(flags):
    """Return a folder with the shim's header, precompiled, which saves a fifth of the time."""
    folder = _cache_folder() / _key(flags)
    header = folder / "cuda_shim.h.gch"
    if not header.exists():
        folder.mkdir(exist_ok=True)
        _make(header, [*flags, "-x", "c++-header", str(_HEADERS[0])])
    return folder


def build(code, options=()):
    """Return the path of a shared library with the entry points of CUDA C source ``code``.

    Entry points are found after preprocessing, so macros may write them.
    """
    flags = _flags(options)
    library = _cache_folder() / f"{_key([code, *flags, _EXPORT])}.so"
    if library.exists():
        return library
    common = _precompiled(tuple(flag for flag in flags if not flag.startswith(("-D", "-U"))))
    flags = [f"-I{common}", "-fpch-preprocess", *flags]
    text = _gcc([*flags, "-x", "c++", "-E"], f'#include "cuda_shim.h"\n#line 1 "kernel.cu"\n{code}')
    exports = [_EXPORT.format(name, a or b) for a, b, name in _ENTRY.findall(text)]
    text = "".join([re.sub(rf"SHIM_KERNEL|{_BOUNDS}", "", text), *exports])
    _make(library, [*flags, "-shared", "-x", "c++-cpp-output"], text)
    return library
