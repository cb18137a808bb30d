"""Where each table of an experiment lies under its folder, `results/{experiment}`."""

from dataclasses import dataclass
from pathlib import Path

from hidden_rule.experiment.runs import Run


@dataclass(frozen=True)
class Layout:
    """Paths below `folder`; the file need not exist."""

    folder: Path

    def table(self, name: str) -> Path:
        """A table of the whole experiment: metrics, comparisons, costs, collapse, supervision, side_effects."""
        return self.folder / f"{name}.parquet"

    @property
    def provenance(self) -> Path:
        return self.folder / "provenance.json"

    @property
    def model(self) -> Path:
        """The manifest of the base model: what it is, and its files."""
        return self.folder / "model.json"

    @property
    def inspection(self) -> Path:
        """What the inspection of the base model found."""
        return self.folder / "inspection.json"

    def states(self, cases: str) -> Path:
        """What the layers below every adapter make of cases: `training` (and validation), or `evaluated` ones."""
        return self.folder / "states" / f"{cases}.safetensors"

    def split(self, name: str) -> Path:
        """A split, `suites`, or `train/{condition}`: the rows of a condition that is trained on some of them."""
        return self.folder / "data" / f"{name}.parquet"

    def predictions(self, run: Run) -> Path:
        return self._of(run, "predictions", ".parquet")

    def evaluation_cost(self, run: Run) -> Path:
        return self._of(run, "predictions", ".cost.parquet")

    def history(self, run: Run) -> Path:
        return self._of(run, "training", "/history.parquet")

    def training_cost(self, run: Run) -> Path:
        return self._of(run, "training", "/cost.parquet")

    def feasibility(self, run: Run) -> Path:
        return self._of(run, "feasibility", ".parquet")

    def side_effects(self, run: Run) -> Path:
        return self._of(run, "side_effects", ".parquet")

    def leaks(self, run: Run) -> Path:
        return self._of(run, "side_effects", ".leaks.parquet")

    def adapter(self, run: Run) -> Path:
        """The folder of a trained run's adapter."""
        return self._of(run, "adapters", "")

    def chart(self, name: str, suffix: str) -> Path:
        return self.folder / "charts" / f"{name}{suffix}"

    def _of(self, run: Run, stage: str, suffix: str) -> Path:
        return self.folder / stage / run.condition / f"seed{run.seed}{suffix}"
