"""The four branches' agents together, each on its own model with the offline rules behind it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic_ai.models import Model

from agents.crown import Crown
from agents.evaluator import Evaluator
from agents.executor import Executor
from agents.models import ModelChoice, build_model, close_model
from agents.planner import Planner
from operations.model import Branch


@dataclass(frozen=True, slots=True)
class Minds:
    """Who thinks for each branch."""

    planner: Planner
    executor: Executor
    evaluator: Evaluator
    crown: Crown
    models: tuple[Model, ...] = ()

    @classmethod
    def of(cls, models: Mapping[Branch, ModelChoice]) -> Self:
        """The branches on their models; a branch without one thinks with the offline rules."""
        rules = build_model(ModelChoice())
        built = {branch: build_model(choice) for branch, choice in models.items()}
        return cls(
            planner=Planner(built.get(Branch.LEGISLATIVE, rules), fallback=rules),
            executor=Executor(built.get(Branch.EXECUTIVE, rules), fallback=rules),
            evaluator=Evaluator(built.get(Branch.JUDICIAL, rules), fallback=rules),
            crown=Crown(built.get(Branch.CROWN, rules), fallback=rules),
            models=tuple(built.values()),
        )

    async def close(self) -> None:
        """Close the models' connections."""
        for model in self.models:
            await close_model(model)
