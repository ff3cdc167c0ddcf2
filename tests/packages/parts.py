"""What package tests are made of."""

from apps.builds.packaging import domain as packaging
from apps.builds.packaging.domain import PackageSpec
from apps.registry.domain import register_code, register_environment, register_model
from apps.registry.enums import ModelType
from tests.mlflow_parts import MLMODEL
from tests.world import PLAIN, tree_of

SCORE = "import os\ndef init(): pass\ndef run(data): return [os.environ['GREETING'], os.environ['AZUREML_MODEL_DIR']]\n"
ROUTES = {
    "livenessRoute": {"port": 8080, "path": "/live"},
    "readinessRoute": {"port": 8080, "path": "/ready"},
    "scoringRoute": {"port": 8080, "path": "/score"},
}


class Parts:
    """A model of each type, code, and environments of a workspace."""

    def __init__(self, workspace, actor):
        here = {"workspace": workspace, "actor": actor}
        self.workspace, self.actor = workspace, actor
        self.custom, _ = register_model(name="plain-model", tree=tree_of(weights="41"), path="", **here)
        files = {"MLmodel": MLMODEL, "conda.yaml": PLAIN}
        self.mlflow, _ = register_model(name="flow", tree=tree_of(**files), path="", type=ModelType.MLFLOW, **here)
        bare = {"MLmodel": MLMODEL, "data": "x"}
        self.bare, _ = register_model(name="bare", tree=tree_of(**bare), path="", type=ModelType.MLFLOW, **here)
        net = {"net__1__model.onnx": "x"}
        self.triton, _ = register_model(name="net", tree=tree_of(**net), path="", type=ModelType.TRITON, **here)
        self.code, _ = register_code(name="code", tree=tree_of(**{"score.py": SCORE}), **here)
        self.plain, _ = register_environment(name="plain", conda_file=PLAIN, **here)
        self.image, _ = register_environment(name="image", image="registry.example/a:1", **here)
        self.served, _ = register_environment(
            name="served", image="registry.example/a:1", inference_config=ROUTES, **here
        )

    def script(self, **changes):
        return PackageSpec(**{"code": self.code, "scoring_script": "score.py", "base": self.plain} | changes)

    def package(self, model=None, spec=None, name="pkg", **more):
        return packaging.package(
            model=model or self.custom, name=name, spec=spec or self.script(), actor=self.actor, **more
        )
