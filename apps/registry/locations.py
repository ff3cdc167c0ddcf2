"""STUB until the real one lands."""
import os, shutil
from pathlib import Path
from dataclasses import dataclass
from django.conf import settings
PREFIX="azureml://datastores/workspaceblobstore/paths/"
@dataclass(frozen=True)
class Location:
    uri: str
    datastore: object
    path: str
    root: Path
    def _p(self): return self.root/self.path
    def kind(self):
        p=self._p(); return "file" if p.is_file() else "folder" if p.is_dir() else None
    def files(self, *, nested=True, most=10**6):
        p=self._p()
        if p.is_file():
            yield p.name, p.stat().st_size; return
        for f in sorted(os.scandir(p), key=lambda e:e.name):
            if f.is_file(): yield f.name, f.stat().st_size
    def local_path(self): return self._p()
    def put(self, source):
        self._p().parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, self._p(), dirs_exist_ok=True)
def resolve(uri, *, workspace, actor, field="uri"):
    return Location(uri, object(), uri.removeprefix(PREFIX), Path(settings.HOME.artifacts)/"blobs"/str(workspace.pk))
