# Written by `python -m tests.stub`; a test holds it to that.
# ruff: noqa: I001
from nemoflows.coding.types import (
    Change as Change,
    CodingTask as CodingTask,
    Effort as Effort,
    Patch as Patch,
)
from nemoflows.typed.client import (
    open_client as open_client,
)
from nemoflows.typed.types import (
    Extraction as Extraction,
    Result as Result,
)
from nemoflows.rag.types import (
    Answer as Answer,
    Citation as Citation,
    Passages as Passages,
    Quotes as Quotes,
    Research as Research,
    ResearchPlan as ResearchPlan,
)
from nemoflows.tasks.answer import (
    answer as answer,
    escalate as escalate,
    plan_research as plan_research,
    synthesise as synthesise,
)
from nemoflows.tasks.audit import (
    estimate_frontier as estimate_frontier,
    shadow as shadow,
)
from nemoflows.tasks.coding.efficient import (
    propose as propose,
    repair as repair,
)
from nemoflows.tasks.coding.frontier import (
    escalate_change as escalate_change,
    plan_change as plan_change,
    review as review,
)
from nemoflows.tasks.coding.report import (
    report_change as report_change,
)
from nemoflows.tasks.coding.sandbox import (
    coding_task as coding_task,
    examine as examine,
    function_task as function_task,
    run_tests as run_tests,
    search_repair as search_repair,
    select as select,
    snapshot as snapshot,
)
from nemoflows.tasks.coding.solve import (
    solve as solve,
)
from nemoflows.tasks.own_steps import (
    ask_as as ask_as,
    classify_as as classify_as,
    extract_as as extract_as,
)
from nemoflows.tasks.flyte.bind import (
    Bound as Bound,
    bind as bind,
)
from nemoflows.tasks.flyte.mapped import (
    mapped as mapped,
)
from nemoflows.tasks.index import (
    build_index as build_index,
    retrieve as retrieve,
)
from nemoflows.tasks.report import (
    report as report,
)
from nemoflows.tasks.research import (
    extract as extract,
    research as research,
    summarise as summarise,
)
from nemoflows.types import (
    Evidence as Evidence,
    Finding as Finding,
    Index as Index,
    ModelRef as ModelRef,
    NotFound as NotFound,
    Passage as Passage,
    Policy as Policy,
)

__all__ = [
    "Answer",
    "Bound",
    "Change",
    "Citation",
    "CodingTask",
    "Effort",
    "Evidence",
    "Extraction",
    "Finding",
    "Index",
    "ModelRef",
    "NotFound",
    "Passage",
    "Passages",
    "Patch",
    "Policy",
    "Quotes",
    "Research",
    "ResearchPlan",
    "Result",
    "answer",
    "ask_as",
    "bind",
    "build_index",
    "classify_as",
    "coding_task",
    "escalate",
    "escalate_change",
    "estimate_frontier",
    "examine",
    "extract",
    "extract_as",
    "function_task",
    "mapped",
    "open_client",
    "plan_change",
    "plan_research",
    "propose",
    "repair",
    "report",
    "report_change",
    "research",
    "retrieve",
    "review",
    "run_tests",
    "search_repair",
    "select",
    "shadow",
    "snapshot",
    "solve",
    "summarise",
    "synthesise",
]
