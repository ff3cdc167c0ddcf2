"""docs/errors.md, made from the problem catalogue: `python -m tests.errors_page` writes it."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
HEAD = """# Errors

Every error has a code of ours that never changes, a code on the wire that Azure ML's clients know, a fault and a next
step. Where it is known, the line that proves it comes with it: `details` of the error's body has it under `Evidence`,
the next step under `NextStep`; the timeline of the operation shows the same. The next step of a case at hand often
knows more than the one below: which package to add, which file is there.

**user**: something in the request, the code, the model or the environment. **capacity**: there is not enough room.
**system**: this installation; trying again may help, and the operator can look with `portway doctor`.

What is certainly wrong is refused before anything is made: no `init()` or `run()`, a syntax error, a pointer of git-lfs
in place of a model. What may be wrong becomes a sentence in the timeline's step Environment: an import that only some
calls reach, a relative path, a pickle of another scikit-learn. Nothing of yours is run to find out.

For a request that failed, ask with the `x-request-id` of its answer: the page "What happened to my request?" of the
studio, or `…/requests/{id}` of the API. The verdict comes with the last line of the model's own traceback.

This page is made from the catalogue by `python -m tests.errors_page`.

| code | on the wire | status | fault | meaning | next step |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The page as it must be."""
    from apps.core.errors import CATALOGUE

    rows = [
        (f"`{code}`", each.azure, str(each.status), str(each.fault), str(each.message), str(each.next_step))
        for code, each in CATALOGUE.items()
    ]
    return HEAD + "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    PAGE.write_text(page())
