"""The planner: drafts are checked against the facts, mistakes go back, and nothing it looks up leaves the fence."""

import pytest
from pydantic_ai.messages import ModelMessage, RetryPromptPart, ToolReturnPart

from agents.mind import Limits
from agents.outputs import PlanDraft, PlanRefusal
from agents.planner import Planner
from agents.rules import RulesModel
from agents.thought import MindUnavailable
from prompts import load
from tests.minds import Desk, no_mistakes, plan, planner_facts, request, scripted, step_draft

pytestmark = pytest.mark.anyio

FACTS = planner_facts(request("vacuum the database"))


def told(messages: list[ModelMessage]) -> str:
    """What the last message says."""
    return "\n".join(str(getattr(part, "content", "")) for part in messages[-1].parts)
