"""An experiment that is planned: its jobs that are to run, what they compute, the model, how long prompts are."""

from dataclasses import dataclass
from functools import cached_property

from hidden_rule.planning import memory
from hidden_rule.planning.jobs import Job, planned_jobs
from hidden_rule.planning.machine import Machine
from hidden_rule.planning.memory import Model
from hidden_rule.planning.model_facts import ModelFacts, model_facts
from hidden_rule.planning.prompt_sizes import PromptSizes, prompt_sizes
from hidden_rule.planning.weights import Shape, typical_shape
from hidden_rule.planning.workload import Kind, Work, kinds_of, prompts_of, works_of

UNKNOWN = 7 * 10**9  # parameters of a model of which nothing is known


@dataclass(frozen=True)
class Experiment:
    """What a plan is made of; `config` is a checked one."""

    config: dict
    jobs: list[Job]
    facts: ModelFacts
    sizes: PromptSizes

    @classmethod
    def of(cls, config: dict, jobs: list[Job] | None = None) -> "Experiment":
        """The experiment of a config; `jobs`: those that are to run, all if not given."""
        jobs = planned_jobs(config) if jobs is None else jobs
        return cls(config, jobs, model_facts(config["model"]), prompt_sizes(config))

    @cached_property
    def works(self) -> dict[Job, Work]:
        """What the jobs of the model compute."""
        return works_of(self.config, self.jobs)

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of training steps that are to run."""
        of_jobs = {job.run.condition for job in self.jobs if job.rule == "train" and job.run}
        return kinds_of(self.config, of_jobs)

    @property
    def prompts(self) -> list[str]:
        """The prompts in which cases are put, as JSON."""
        return prompts_of(self.config)

    @property
    def explores_freely(self) -> bool:
        return self.config["decoding"] == "free"

    @property
    def processes(self) -> int:
        """Of one training."""
        return self.config["launch"]["processes"]

    @property
    def shape(self) -> Shape:
        return self.facts.shape or typical_shape(UNKNOWN, "a guess")

    @property
    def is_here(self) -> bool:
        """Whether the model's files are on this machine, or in an installed package."""
        return self.facts.folder is not None or self.config["model"]["source"] == "package"

    def model(self, machine: Machine) -> Model:
        """The model as its jobs hold it on a machine."""
        lora, dtype = self.config["lora"], self.config["model"]["dtype"]
        return Model(
            shape=self.shape,
            lora=self.shape.lora(lora["r"], lora["target_modules"], lora["last_layers"]),
            trained=min(1.0, lora["last_layers"] / self.shape.layers) if lora["last_layers"] else 1.0,
            itemsize=memory.itemsize(dtype, machine),
            sharing=self.processes if self.config["launch"]["strategy"] != "ddp" else 1,
        )
